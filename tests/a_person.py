"""A user with a key and an ssh client of their own, and the image that they reserved."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from fix_guest_lan import LanGuest

from vcl_provision.channels.keys import KeyPair, new_key
from vcl_provision.drivers import ConnectMethod, ConnectPort, Revision, User

REVISION = Revision(
    id=1,
    image_id=1,
    image="small",
    revision=1,
    name="small-v1",
    os="Linux",
    os_module="linux",
    sudo=True,
    connect_methods=[ConnectMethod(name="ssh", service="ssh", ports=[ConnectPort(protocol="tcp", port=22)])],
)


@dataclass(frozen=True, kw_only=True)
class Person:
    """A user, and the key file they log in with."""

    user: User
    key_file: Path

    def client(self, address: object, command: str, *options: str) -> list[str]:
        """The command line of their own ssh client, with `options` of it besides."""
        usual = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR")
        argv = [
            "ssh",
            "-F",
            "none",
            "-i",
            str(self.key_file),
            *options,
            *(word for each in usual for word in ("-o", each)),
        ]
        return [*argv, f"{self.user.name}@{address}", command]

    def ssh(self, guest: LanGuest, command: str, *, family: int = 0, side: str = "user") -> list[str]:
        """The same, from one of the neighbours' addresses."""
        source, target = getattr(guest.lan, side)[family], guest.lan.guest[family]
        return self.client(target, command, "-b", str(source), "-o", "ConnectTimeout=20")

    def asks(self, guest: LanGuest, command: str, *, family: int = 0, side: str = "user") -> str:
        """What a command of theirs answers; raises if they do not get in."""
        argv = self.ssh(guest, command, family=family, side=side)
        return subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def a_person(folder: Path, name: str) -> Person:
    key: KeyPair = new_key()
    file = folder / f"{name}.key"
    file.touch(mode=0o600)
    file.write_text(key.private.reveal())
    return Person(user=User(id=1, name=name, affiliation="Local", keys=[f"{key.public} {name}@home"]), key_file=file)
