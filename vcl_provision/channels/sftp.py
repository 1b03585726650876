"""Files on another machine over sftp, its host key pinned by known_hosts. Knows paramiko, with transport.py."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from getpass import getuser
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import paramiko
from paramiko.sftp import CMD_EXTENDED

from vcl_provision.channels.keys import existing_key
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.transport import KEYS, Connection, Peer, connect
from vcl_provision.model.faults import Refused, Transient

KNOWN_HOSTS = (Path("/etc/vcl-provision/known_hosts"), Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))
"""Where host keys are looked for if no file is named."""

COMES_UP = 10.0
"""Seconds in which a server that does not answer is dialled again: a lost first packet is no server that is away."""

QUICKEST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
"""A server computes them by instructions of its processor, and the first two need no second pass for a sum."""

WINDOW, PACKET = 16 << 20, 256 << 10
"""Bytes that may be on their way to us, and in one packet (OpenSSH's limit): each costs the same, however full."""

LOST = (paramiko.SSHException, EOFError)
"""What paramiko raises when the connection ended in the middle of something."""


class Sftp(Protocol):
    """paramiko's SFTPClient, as far as we use it. One thread at a time: the answers of two would get mixed up."""

    def open(self, filename: str, mode: str) -> BinaryIO: ...

    def rename(self, oldpath: str, newpath: str) -> None:
        """Raises OSError if there is a file of the new name."""
        ...

    def listdir_iter(self, path: str) -> Iterator[object]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class SftpServer:
    """Where to log in, with which private key, and in which files its host key is to be found."""

    host: str
    port: int = 22
    user: str = ""
    key: Path
    known_hosts: Sequence[Path] = KNOWN_HOSTS


def connect_sftp(server: SftpServer, patience: Patience) -> Connection:
    """Raises Transient while it does not let us in, WrongHostKey, Refused (no key, host unknown), Cancelled."""
    host_key = known_host_key(server)
    key = existing_key(server.key.expanduser())
    peer = Peer(
        name=server.host,
        address=ip_address(_address(server)),
        port=server.port,
        user=server.user or getuser(),
        host_key=host_key,
    )
    within = patience.at_most(COMES_UP)
    while True:
        try:
            return connect(peer, key, patience, ciphers=QUICKEST)
        except Transient:
            if within.remaining <= 0:
                raise
        within.sleep(0.3)


def open_sftp(connection: Connection) -> Sftp:
    """A session for files over a connection; as many as the server allows, ten with OpenSSH. Raises Transient."""
    try:
        session = paramiko.SFTPClient.from_transport(connection.transport, WINDOW, PACKET)  # type: ignore[arg-type]
        return cast("Sftp", session)
    except (*LOST, OSError) as no:
        raise Transient(f"the ssh server opened no sftp session: {no or type(no).__name__}") from no


def free_bytes(sftp: Sftp, path: str) -> int | None:
    """Room for files there; None if the server cannot tell. OpenSSH's extension, PROTOCOL section 4.5."""
    try:
        answer = cast("Any", sftp)._request(CMD_EXTENDED, "statvfs@openssh.com", path)[1]  # noqa: SLF001 - no call has it
    except OSError:
        return None
    numbers = [int(answer.get_int64()) for _ in range(5)]
    return numbers[1] * numbers[4]  # a block's bytes, blocks for whoever is not root


def known_host_key(server: SftpServer) -> str:
    """The line `ssh-ed25519 AAAA...` of the host, its kinds in our order. Raises Refused if no file has one."""
    name = server.host if server.port == 22 else f"[{server.host}]:{server.port}"
    files = [path.expanduser() for path in server.known_hosts]
    for path in files:
        if not path.exists():
            continue
        keys = cast("Mapping[str, paramiko.PKey]", paramiko.HostKeys(str(path)).lookup(name) or {})
        for kind in KEYS:
            if kind in keys:
                return f"{kind} {keys[kind].get_base64()}"
    scan = f"ssh-keyscan -p {server.port} {server.host} >> {files[0]}"
    raise Refused(
        f"no host key of {name} is known in {', '.join(map(str, files))}",
        f"add it, and compare it with what that machine says of itself: {scan}",
    )


def _address(server: SftpServer) -> str:
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except OSError as no:
        raise Transient(f"the name {server.host} has no address: {no.strerror or no}") from no
    return str(found[0][4][0])
