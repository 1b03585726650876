"""Bare boots: a guest under QEMU alone, until a first command over ssh has ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from a_person import Person, a_person
from fix_guests import BareGuest, built_image

from vcl_provision.channels.keys import KeyPair, new_host_key, new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.images.firstboot import FirstBoot

PATIENCE = 300.0
"""Seconds for a guest under emulation, by far."""

ACCOUNT = """
useradd -m -s "$(command -v bash || echo /bin/sh)" -p '*' {name}
mkdir -p ~{name}/.ssh
echo '{key}' >~{name}/.ssh/authorized_keys
chown -R {name}: ~{name}/.ssh
[ ! -e /etc/machine-id ] || : >/etc/machine-id
rm -rf /var/lib/vcl
sync
"""
"""What root does in the boot before: the account is there, and the next boot is a first one again."""


@dataclass(frozen=True, kw_only=True)
class Bare:
    """An image on whose disk `user` has an account. Each boot starts from that disk, with its own first-boot disk."""

    image: str
    disk: Path
    user: Person
    management: KeyPair
    accelerator: str

    def to_the_users_command(self) -> float:
        """Seconds from QEMU's start to the end of a command of the user's own ssh client, as for a load."""
        with self._prepared() as guest:
            began = time.monotonic()
            guest.start()
            guest.dial(Patience(PATIENCE)).close()
            command = self.user.client("127.0.0.1", "true", "-p", str(guest.port))
            while subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode:
                assert time.monotonic() < began + PATIENCE, guest.console_end()
                time.sleep(0.05)
            return time.monotonic() - began

    def to_roots_command(self) -> float:
        """The same for root, whom systemd starts nothing for."""
        with self._prepared() as guest:
            began = time.monotonic()
            guest.start()
            guest.wait_until_usable(Patience(PATIENCE))
            return time.monotonic() - began

    @contextlib.contextmanager
    def _prepared(self) -> Generator[BareGuest]:
        """Disks and keys are made, so that they are not in the time. The machine is the one that the lab makes."""
        with tempfile.TemporaryDirectory(prefix="vcl-bench-") as name:
            folder = Path(name)
            overlay = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self.disk), "-F", "qcow2")
            subprocess.run([*overlay, str(folder / "overlay.qcow2")], check=True)
            with _guest(self.image, folder, self.management, self.accelerator) as guest:
                guest.prepare()
                yield guest


@contextlib.contextmanager
def a_bare(image: str, *, accelerator: str) -> Generator[Bare]:
    """Ready to be booted: it has been up once before, to be given its user."""
    management = new_key()
    with tempfile.TemporaryDirectory(prefix="vcl-bench-") as name:
        folder = Path(name)
        user = a_person(folder, "alice")
        with _guest(image, folder, management, accelerator) as guest:
            guest.start()
            guest.wait_until_usable(Patience(PATIENCE))
            made = guest.run(
                f"set -e\n{ACCOUNT.format(name=user.user.name, key=user.user.keys[0])}", Patience(PATIENCE)
            )
            assert made.status == 0, made.stderr
        disk = folder / "overlay.qcow2"
        yield Bare(image=image, disk=disk, user=user, management=management, accelerator=accelerator)


def _guest(image: str, folder: Path, management: KeyPair, accelerator: str) -> BareGuest:
    host = new_host_key()
    told = FirstBoot(
        instance=os.urandom(8).hex(),
        hostname="bare",
        host_key=host.public,
        host_key_private=host.private,
        management_keys=[management.public],
    )
    hardware = {} if accelerator == "tcg" else {"accelerator": "kvm", "cpu": "host"}
    return BareGuest(built_image(image), folder, told, management, **hardware)
