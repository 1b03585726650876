"""A small disk that stays with a machine and is written anew between two boots: `bootparams.conf` on ext2.

The guest reads it at boot and unmounts it at once; the host writes it while the machine is off, and mounts nothing
either: mke2fs fills it, debugfs rewrites it. debugfs ends with status 0 whatever happened, so everything is read back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.carriers.plain import bootparams_conf, plain_files, read_bootparams_conf
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.images.hosttools import require
from vcl_provision.model.faults import CommandFailed, Refused, TimedOut

LABEL, NAME = "bootparams", "bootparams.conf"
_TOOLS = {"debugfs": "e2fsprogs", "e2fsck": "e2fsprogs", "mke2fs": "e2fsprogs"}
_CLEARING = 10.0
LARGEST = 128 * 1024
"""Bytes of bootparams.conf at most: what a channel hands back whole, and the old and new one fit on the disk."""


@dataclass(frozen=True, kw_only=True)
class BootparamsDisk:
    """The disk in the file `path` (absolute) of the machine that `channel` leads to, which has e2fsprogs.

    One writer at a time. What a killed one leaves (`PATH.new*`, as secret as the disk) the next one removes.
    """

    path: str
    channel: Channel

    def __post_init__(self) -> None:
        """debugfs splits its commands at spaces and has no way to quote all of them."""
        if not self.path.startswith("/") or any(letter in self.path for letter in " \t\n\"'\\"):
            raise Refused(f"{self.path!r} cannot hold boot parameters", "an absolute path without spaces and quotes")

    def make(self, firstboot: FirstBoot, *, patience: Patience) -> None:
        """A new disk of 1 MiB in the place of whatever is there. Raises Refused, CommandFailed, TimedOut, Cancelled."""
        text = _text(firstboot)
        tree = f"{self.path}.new.d"
        self._write(text, lambda conf: self._fill(tree, conf, patience), lambda: False, patience)

    def rewrite(self, firstboot: FirstBoot, *, running: Callable[[], bool], patience: Patience) -> None:
        """Puts another bootparams.conf on the disk; what else lies there stays. Whoever is killed leaves the old disk
        or the new one, whole.

        `running` says whether the machine is on: it is asked before anything is touched, and before the disk changes.
        Raises Refused if it is, CommandFailed (no disk there, no room), TimedOut, Cancelled.
        """
        text = _text(firstboot)
        self._refuse_if(running)
        self._write(text, lambda conf: self._replace(conf, patience), running, patience)

    def read(self, *, patience: Patience) -> dict[str, str]:
        """What the disk says now, as plain files. Raises Refused if there is nothing that can be read."""
        text = self._run(patience, "debugfs", "-R", f"cat /{NAME}", self.path)
        files = read_bootparams_conf(text)
        if not files:
            raise Refused(f"{self.path} holds no {NAME}", "write it: the machine would be told nothing")
        return files

    @property
    def _new(self) -> str:
        return f"{self.path}.new"

    def _write(
        self, text: str, write: Callable[[str], None], running: Callable[[], bool], patience: Patience
    ) -> None:
        conf, back = f"{self._new}.conf", f"{self._new}.back"
        require(_TOOLS, for_what="a disk of boot parameters", channel=self.channel, patience=patience)
        self._clear(patience)
        try:
            self.channel.put(conf, text.encode(), mode=0o600, patience=patience)
            write(conf)
            self._run(patience, "debugfs", "-R", f"dump /{NAME} {back}", self._new)
            self._run(patience, "cmp", conf, back)
            self._run(patience, "e2fsck", "-fn", self._new)
            self._run(patience, "sync", self._new)
            self._refuse_if(running)
            self._run(patience, "mv", "-fT", self._new, self.path, changes=True)
        finally:
            with suppress(CommandFailed, TimedOut):
                self._clear(Patience(_CLEARING))  # also when nobody waits any more: it is as secret as the disk

    def _fill(self, tree: str, conf: str, patience: Patience) -> None:
        self._run(patience, "mkdir", "-m", "700", tree)
        self._run(patience, "cp", "-p", conf, f"{tree}/{NAME}")
        self._run(patience, "install", "-m", "600", "/dev/null", self._new)
        kind = ("-q", "-F", "-t", "ext2", "-L", LABEL, "-m", "0", "-E", "root_owner=0:0")
        self._run(patience, "mke2fs", *kind, "-d", tree, self._new, "1M")

    def _replace(self, conf: str, patience: Patience) -> None:
        self._run(patience, "cp", "-p", self.path, self._new)
        for request in (f"rm /{NAME}", f"write {conf} {NAME}"):
            self._run(patience, "debugfs", "-w", "-R", request, self._new)

    def _clear(self, patience: Patience) -> None:
        left = (self._new, f"{self._new}.d", f"{self._new}.conf", f"{self._new}.back")
        self._run(patience, "rm", "-rf", *left)

    def _refuse_if(self, running: Callable[[], bool]) -> None:
        if running():
            raise Refused(f"{self.path} belongs to a machine that is on", "turn it off: both would write the disk")

    def _run(self, patience: Patience, *argv: str, changes: bool = False) -> str:
        return self.channel.run(argv, patience=patience, changes=changes).stdout


def bootparams_image(firstboot: FirstBoot, *, channel: Channel, patience: Patience) -> bytes:
    """A new disk's bytes, 1 MiB, for hypervisors that are sent their files. `channel` is this machine's."""
    with tempfile.TemporaryDirectory(prefix="vcl-bootparams-") as folder:  # mode 700
        disk = BootparamsDisk(path=f"{folder}/disk", channel=channel)
        disk.make(firstboot, patience=patience)
        return Path(disk.path).read_bytes()


def _text(firstboot: FirstBoot) -> str:
    text = bootparams_conf(plain_files(firstboot))
    size = len(text.encode())
    if size > LARGEST:
        said = f"{size} bytes of boot parameters do not fit on the disk: {LARGEST} do"
        raise Refused(said, "hand over large parameters by another way, and here only where they lie")
    return text
