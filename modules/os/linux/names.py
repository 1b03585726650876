"""What a guest can take for a name or a key: checked here, where the answer is a sentence and nothing has happened."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64

from vcl_provision.drivers import Address, ConnectMethod, Refused, User

from .sockets import unmapped

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,127}")
_COMMENT = re.compile(r"[^\x00-\x1f\x7f]*")

KEY_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
"""What OpenSSH still takes; ssh-dss it does not."""


def user_name(user: User) -> str:
    """The name, if useradd of every distribution takes it. Raises Refused."""
    if not _NAME.fullmatch(user.name):
        said = repr(user.name) if len(user.name) <= 40 else f"{user.name[:40]!r} and {len(user.name) - 40} more"
        raise Refused(
            f"a user cannot be named {said}",
            "at most 32 letters, digits, `_`, `.` and `-`, beginning with a letter or `_`",
        )
    return user.name


def host_name(name: str) -> str:
    """The name, if a machine can have it. Raises Refused."""
    if not _HOST_NAME.fullmatch(name):
        raise Refused(f"a machine cannot be named {name[:70]!r}", "at most 64 letters, digits, `.` and `-`")
    return name


def key_line(line: str) -> str:
    """The line of authorized_keys, if it is a public key and nothing besides. Raises Refused."""
    kind, _, rest = line.strip().partition(" ")
    blob, _, comment = rest.strip().partition(" ")
    if kind not in KEY_TYPES or not _is_key(kind, blob) or not _COMMENT.fullmatch(comment):
        shown = line if len(line) <= 60 else line[:60] + "..."
        raise Refused(
            f"this is no public ssh key: {shown!r}",
            "give one line of a .pub file, such as `ssh-ed25519 AAAA... me@home`, without options before it",
        )
    return f"{kind} {blob} {comment.strip()}".rstrip()


def _is_key(kind: str, blob: str) -> bool:
    """RFC 4253, 6.6: the key's own first field is its type again, its length in four bytes before it."""
    try:
        inside = b64decode(blob, validate=True)
    except (NotBase64, ValueError):
        return False
    head = len(kind).to_bytes(4, "big") + kind.encode()
    return inside.startswith(head) and len(inside) > len(head) + 32


def gate_arguments(address: Address, methods: tuple[ConnectMethod, ...]) -> list[str]:
    """Address and ports as scripts/gate.sh takes them. Raises Refused if nothing would be open."""
    ports = list(dict.fromkeys(_port(port.protocol, port.port) for method in methods for port in method.ports))
    if not ports:
        raise Refused("the image has no connect method, so nobody could get in", "give it one, such as ssh with tcp 22")
    return [str(unmapped(address)), *ports]


def services(methods: tuple[ConnectMethod, ...]) -> str:
    """The services that must be running, a space between. sshd is: we came in through it, or nobody else will."""
    named = [method.service for method in methods if method.service not in {"", "ssh", "sshd"}]
    for name in named:
        if not _SERVICE.fullmatch(name):
            raise Refused(f"a service cannot be named {name[:40]!r}", "correct the connect method's service")
    return " ".join(named)


def _port(protocol: str, port: int) -> str:
    if protocol.lower() not in {"tcp", "udp"} or not 0 < port < 65536:
        raise Refused(f"a connect method cannot use {protocol} port {port}", "tcp or udp, and a port from 1 to 65535")
    return f"{protocol.lower()}:{port}"
