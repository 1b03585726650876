"""The machine that builds: how commands reach it, what it keeps for the next build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.model.faults import Ran

_INSIDE = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "INITRD": "No",  # initramfs-tools: no first ram disk before its settings are there
}


@dataclass(frozen=True, kw_only=True)
class BuildHost:
    """`channel` reaches a namespace where we are root; `archives` keeps packages that were loaded once."""

    channel: Channel
    patience: Patience
    archives: Path
    rootless: bool = False

    def run(self, *argv: str, stdin: bytes = b"", name: str = "", accept: Sequence[int] = (0,)) -> Ran:
        """A command of this host. See Channel.run."""
        return self.channel.run(argv, patience=self.patience, stdin=stdin, name=name, accept=accept)

    def ask(self, *argv: str) -> str:
        """What a command prints that changes nothing."""
        return self.channel.run(argv, patience=self.patience, changes=False).stdout


@dataclass(frozen=True, kw_only=True)
class Chroot:
    """Commands inside a guest's tree, with its own programs and nothing of this host's environment."""

    host: BuildHost
    root: Path
    epoch: int

    def run(self, *argv: str, stdin: bytes = b"", accept: Sequence[int] = (0,), **environment: str) -> Ran:
        """Raises CommandFailed, named for the program inside."""
        told = {**_INSIDE, "SOURCE_DATE_EPOCH": str(self.epoch), **environment}
        words = [f"{name}={value}" for name, value in told.items()]
        whole = ("chroot", str(self.root), "env", "-i", *words, *argv)
        return self.host.run(*whole, stdin=stdin, name=f"{argv[0]} in the guest", accept=accept)

    def has(self, program: str) -> bool:
        """Is this program there?"""
        return any((self.root / folder / program).exists() for folder in ("usr/bin", "usr/sbin", "bin", "sbin"))
