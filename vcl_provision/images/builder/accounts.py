"""Accounts of a guest, made by its own useradd; passwords as hashes on its standard input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vcl_provision.images.builder.checking import KEY_LINE
from vcl_provision.images.builder.distributions import Guest
from vcl_provision.images.builder.spec import User
from vcl_provision.model.secret import Secret


def make_accounts(guest: Guest, passwords: Mapping[str, Secret]) -> None:
    """Groups, users, passwords, ssh keys. Root without a password has `*`: nobody gets in by one."""
    accounts = guest.spec.accounts
    for name, gid in accounts.groups.items():
        number = () if gid is None else ("-g", str(gid))
        guest.inside.run("groupadd", *number, name)
    for user in accounts.users:
        guest.inside.run("useradd", *_useradd(user, guest))
    lines = "".join(f"{name}:{hashed.reveal()}\n" for name, hashed in passwords.items())
    if lines:
        guest.inside.run("chpasswd", "-e", stdin=lines.encode())
    for user in accounts.users:
        if user.locked:
            guest.inside.run("usermod", "-L", "-e", "1", user.name)
    _authorize(guest, "root", "root", accounts.root_keys)
    for user in accounts.users:
        _authorize(guest, user.name, f"home/{user.name}", user.keys)


def _useradd(user: User, guest: Guest) -> Iterator[str]:
    yield from ("-m", "-c", user.full_name, "-s", _shell(user, guest))
    if user.uid is not None:
        yield from ("-u", str(user.uid))
    if user.gid is not None:
        guest.inside.run("groupadd", "-g", str(user.gid), user.name, accept=(0, 4, 9))
        yield from ("-g", str(user.gid))
    else:
        yield "-U"
    if user.groups:
        yield from ("-G", ",".join(user.groups))
    yield user.name


def _shell(user: User, guest: Guest) -> str:
    return user.shell if guest.tree.exists(user.shell) else "/bin/sh"


def key_lines(keys: Sequence[str]) -> list[str]:
    """Lines of authorized_keys: those given, and those of the files given."""
    lines: list[str] = []
    for key in keys:
        text = key if KEY_LINE.fullmatch(key) else Path(key).expanduser().read_text(encoding="utf-8")
        lines += [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return lines


def _authorize(guest: Guest, name: str, home: str, keys: Sequence[str]) -> None:
    if not keys:
        return
    guest.tree.folder(f"{home}/.ssh", 0o700)
    guest.tree.write(f"{home}/.ssh/authorized_keys", "".join(f"{line}\n" for line in key_lines(keys)), 0o600)
    if name != "root":
        guest.inside.run("chown", "-R", f"{name}:", f"/{home}/.ssh")
