"""One ssh connection: dialled cheaply, its host key pinned. Knows paramiko, which has no types; sftp.py does too."""

from __future__ import annotations

import io
import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, cast

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from vcl_provision.channels.command import LOOK
from vcl_provision.channels.dial import dial
from vcl_provision.channels.keys import KeyPair
from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Refused, Transient, WrongHostKey
from vcl_provision.model.lab import Address

CHEAPEST = {
    "kex": ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256"),
    "ciphers": ("aes128-ctr", "aes256-ctr", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com"),
    "digests": ("hmac-sha2-256", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512"),
}
"""What a guest without hardware's help computes fastest, then what others may insist on."""

RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
"""Ways to sign with a key of type ssh-rsa; the old way, of the same name as the key, is broken."""

KEYS = {"ssh-ed25519": paramiko.Ed25519Key, "ssh-rsa": paramiko.RSAKey, "ecdsa-sha2-nistp256": paramiko.ECDSAKey}

IDLE = 5.0
"""Seconds between two wakes of a connection's reading thread with nothing to read; paramiko's own is 0.1."""

FOR_EVER = 86400.0
"""Seconds, for paramiko's own timeouts: the patience handed down decides, and slow guests may need longer than they."""

# Its errors reach us as exceptions and become ours; logged by it as well, each booting guest would fill a page.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Buffer(Protocol):
    """One stream's bytes, as they came in."""

    def set_event(self, event: object) -> None: ...


class Session(Protocol):
    """paramiko's Channel, as far as we use it: one command."""

    in_buffer: Buffer
    in_stderr_buffer: Buffer
    closed: bool
    exit_status: int

    def exec_command(self, command: str) -> None: ...

    def recv_ready(self) -> bool: ...

    def recv(self, nbytes: int) -> bytes: ...

    def recv_stderr_ready(self) -> bool: ...

    def recv_stderr(self, nbytes: int) -> bytes: ...

    def send_ready(self) -> bool: ...

    def send(self, s: bytes) -> int: ...

    def shutdown_write(self) -> None: ...

    def close(self) -> None: ...


class _Key(Protocol):
    def get_name(self) -> str: ...

    def get_base64(self) -> str: ...


class _Options(Protocol):
    kex: Sequence[str]
    ciphers: Sequence[str]
    digests: Sequence[str]
    key_types: Sequence[str]


class _Transport(Protocol):
    """paramiko's Transport, as far as we use it."""

    handshake_timeout: float
    auth_timeout: float
    name: str

    def get_security_options(self) -> _Options: ...

    def start_client(self, event: threading.Event) -> None: ...

    def auth_publickey(self, username: str, key: object, event: threading.Event) -> object: ...

    def get_remote_server_key(self) -> _Key: ...

    def open_session(self, *, timeout: float) -> Session: ...

    def is_active(self) -> bool: ...

    def is_authenticated(self) -> bool: ...

    def get_exception(self) -> Exception | None: ...

    def join(self, timeout: float) -> None: ...

    def close(self) -> None: ...


class Connection:
    """An authenticated connection; made by `connect`."""

    def __init__(self, sock: socket.socket, transport: _Transport) -> None:
        self._sock = sock
        self._transport = transport

    @property
    def alive(self) -> bool:
        return self._transport.is_active()

    @property
    def transport(self) -> object:
        """paramiko's own, for what it makes over a connection."""
        return self._transport

    def ended_within(self, seconds: float) -> bool:
        """Waits so long for the end of the connection: a session learns of it a moment before the connection does."""
        self._transport.join(seconds)
        return not self.alive

    def open_session(self, command: str) -> Session:
        """Starts a command. Blocks until the server has taken it or the connection ends, however long that is.

        Raises Transient if the server refuses one more session, or the connection ends.
        """
        try:
            session = self._transport.open_session(timeout=FOR_EVER)
            session.exec_command(command)
        except (paramiko.SSHException, EOFError, OSError) as no:
            raise Transient(f"the ssh server took no command: {no or type(no).__name__}") from no
        return session

    def close(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the reading thread, for which close() waits
        self._transport.close()


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A machine to connect to. `name` is what people call it; `host_key` the one it must answer with."""

    name: str
    address: Address
    host_key: str
    port: int = 22
    user: str = "root"


def connect(
    peer: Peer, key: KeyPair, patience: Patience, *, ciphers: Sequence[str] = CHEAPEST["ciphers"]
) -> Connection:
    """One attempt; `ciphers` in the order of our liking.

    Raises Transient while the machine does not let us in, WrongHostKey, Refused, Cancelled.
    """
    kind, pinned = _pinned(peer)
    sock = dial(peer.address, peer.port, patience)
    transport = _transport(sock, peer.name, kind, ciphers)
    connection = Connection(sock, transport)
    try:
        _shake_hands(transport, peer, pinned, patience)
        _log_in(transport, peer, key, patience)
    except BaseException:
        connection.close()
        raise
    sock.settimeout(IDLE)
    return connection


def _pinned(peer: Peer) -> tuple[str, str]:
    """Type and key of the line `ssh-ed25519 AAAA...`."""
    if not peer.host_key:
        raise Refused(
            f"no host key of {peer.name} is known", "load an image on it: a load gives a machine its host key"
        )
    kind, _, rest = peer.host_key.partition(" ")
    if kind not in KEYS or not rest.strip():
        raise Refused(
            f"the host key of {peer.name} is none we know: {peer.host_key!r}", f"take one of {', '.join(KEYS)}"
        )
    return kind, rest.split()[0]


def _transport(sock: socket.socket, name: str, kind: str, ciphers: Sequence[str]) -> _Transport:
    transport = cast("_Transport", paramiko.Transport(sock))
    transport.name = f"ssh-{name}"
    transport.handshake_timeout = transport.auth_timeout = FOR_EVER
    options = transport.get_security_options()
    options.kex, options.ciphers, options.digests = CHEAPEST["kex"], ciphers, CHEAPEST["digests"]
    options.key_types = RSA_SIGNATURES if kind == "ssh-rsa" else (kind,)
    return transport


def _shake_hands(transport: _Transport, peer: Peer, pinned: str, patience: Patience) -> None:
    done = threading.Event()
    transport.start_client(done)
    _await(done, peer, patience)
    said = transport.get_exception()
    if isinstance(said, IncompatiblePeer) and "host key" in str(said):
        raise _wrong_key(peer, "a key of another type")
    if not transport.is_active():
        raise Transient(f"{peer.name} broke off the ssh handshake: {said or 'no reason given'}")
    answered = transport.get_remote_server_key()
    if answered.get_base64() != pinned:
        raise _wrong_key(peer, f"{answered.get_name()} {answered.get_base64()}")


def _log_in(transport: _Transport, peer: Peer, key: KeyPair, patience: Patience) -> None:
    done = threading.Event()
    try:
        transport.auth_publickey(peer.user, _private(key), done)
    except paramiko.SSHException as no:
        raise Transient(f"{peer.name} broke off the ssh login: {no}") from no
    _await(done, peer, patience)
    if not transport.is_authenticated():
        # Not Refused: an image whose first boot is not over may not have our key yet.
        raise Transient(
            f"{peer.name} does not let {peer.user} in with the management key",
            "the image must take the management key at its first boot, or have it in root's authorized_keys",
        )


def _await(done: threading.Event, peer: Peer, patience: Patience) -> None:
    while not done.wait(min(LOOK, patience.remaining)):
        patience.check()
        if patience.remaining <= 0:
            raise Transient(f"{peer.name} began an ssh connection and did not come to its end in time")


def _wrong_key(peer: Peer, answered: str) -> WrongHostKey:
    return WrongHostKey(
        f"{peer.name} at {peer.address} answered with another host key: {answered}",
        "another machine has its address, or its image does not take the host key it is given at first boot",
    )


def _private(key: KeyPair) -> object:
    kind = KEYS.get(key.public.split()[0])
    if kind is None:
        raise Refused(f"a management key of type {key.public.split()[0]} cannot be used", "take an ed25519 key")
    return kind.from_private_key(io.StringIO(key.private.reveal()))
