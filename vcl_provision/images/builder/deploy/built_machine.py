"""A machine whose disks are written: what every way of starting it needs to know."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.model.faults import Refused

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_MAC = re.compile(r"[0-9a-f][02468ace](?::[0-9a-f]{2}){5}")
_PLAIN = re.compile(r"[ -~]*")


@dataclass(frozen=True, kw_only=True)
class DirectBoot:
    """A kernel that the hypervisor starts itself; `initrd` None for none."""

    kernel: Path
    initrd: Path | None
    command_line: str


@dataclass(frozen=True, kw_only=True)
class BuiltMachine:
    """`name` is its host name. `disks` are files of one format, in their order.

    `boot` is what is handed over with Loader.DIRECT. `os` is text as /etc/os-release has it; `mac` of its only network
    card, empty for one made from the name; `drivers` are the modules of its kernel (see `kernel_drivers`), empty if
    they are not known. `identity` is what the numbers of disks follow that are written for other hypervisors; without,
    they are random. Raises Refused for a name or address that a hypervisor would not take.
    """

    name: str
    disks: Sequence[Path]
    disk_format: DiskFormat
    loader: Loader
    memory_mb: int
    cpus: int = 1
    boot: DirectBoot | None = None
    os: str = ""
    mac: str = ""
    drivers: frozenset[str] = frozenset()
    identity: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Refused(f"{self.name!r} cannot name a machine", "letters, digits, dots and dashes, at most 63")
        if self.mac and not _MAC.fullmatch(self.mac.lower()):
            hint = "six pairs of digits, the first of them even (no group's address): 52:54:00:12:34:56"
            raise Refused(f"{self.mac!r} cannot be a network card's address", hint)
        if (self.loader is Loader.DIRECT) != (self.boot is not None):
            raise Refused(f"{self.name} boots {self.loader}: a kernel is handed over with direct, and only then")
        if self.boot and not _PLAIN.fullmatch(self.boot.command_line):
            raise Refused(f"the kernel's command line {self.boot.command_line!r} is no plain text")

    @property
    def address(self) -> str:
        """The card's hardware address: the one asked for, or one of QEMU's range that only this name has."""
        digits = hashlib.sha256(self.name.encode()).hexdigest()
        return self.mac.lower() or f"52:54:00:{digits[:2]}:{digits[2:4]}:{digits[4:6]}"


def kernel_drivers(root: Path) -> frozenset[str]:
    """Names of the modules that the kernels in a root folder have, loadable or built in, with `_` for `-`."""
    return frozenset(name for folder in (root / "usr/lib/modules").glob("*") for name in _modules(folder))


def _modules(folder: Path) -> Iterator[str]:
    for listed in ("modules.dep", "modules.builtin"):
        if (folder / listed).exists():
            for line in (folder / listed).read_text(encoding="utf-8").splitlines():
                path = line.partition(":")[0]
                yield path.rpartition("/")[2].partition(".")[0].replace("-", "_")
