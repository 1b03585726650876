"""What one revision of an image consists of, and what it needs: a value that never changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.model.faults import Refused

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a revision, an image and a disk may be called: a file's name, wherever it is put."""

MOST_DISKS = 24
"""As many as there are letters for, with one that says who the machine is."""

_SUM = re.compile(r"[0-9a-f]{64}")
_ARCHITECTURES = {"x86_64": "amd64", "x64": "amd64", "aarch64": "arm64", "i686": "i386", "i586": "i386", "x86": "i386"}


class DiskRole(StrEnum):
    """What a disk is for."""

    SYSTEM = "system"
    """What is booted; each machine writes on an overlay of its own."""
    APPLICATION = "application"
    """Programs that come and go without the system: only read, by all machines."""
    DATA = "data"
    """What the machine's users fill; each machine writes on an overlay of its own."""
    BOOT_PARAMETERS = "boot_parameters"
    """What a machine reads at its first boot: replaced by a disk with its own."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A content by its SHA-256 (64 digits of hexadecimal) and its length in bytes.

    `blake3` is another sum of the same bytes, quicker to take; empty where nobody took it. It names nothing: contents
    of one SHA-256 are one.
    """

    sha256: str
    bytes: int
    blake3: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not _SUM.fullmatch(self.sha256):
            raise Refused(f"{self.sha256!r} is no SHA-256", "64 digits of 0-9 and a-f, as sha256sum prints them")
        if self.blake3 and not _SUM.fullmatch(self.blake3):
            raise Refused(f"{self.blake3!r} is no BLAKE3", "64 digits of 0-9 and a-f, as b3sum prints them")
        if self.bytes < 0:
            raise Refused(f"a content has {self.bytes} bytes", "count them again")


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One disk: `name` tells it from the image's others, `virtual_bytes` is the size that a guest sees."""

    name: str
    role: DiskRole
    format: DiskFormat
    blob: Blob
    virtual_bytes: int

    def __post_init__(self) -> None:
        _require_name("a disk", self.name)
        if self.virtual_bytes <= 0:
            raise Refused(f"disk {self.name} is {self.virtual_bytes} bytes large for its guest", "measure it again")


@dataclass(frozen=True, kw_only=True)
class DirectBoot:
    """A kernel that the hypervisor starts itself, instead of what a disk's first sector says."""

    kernel: Blob
    initrd: Blob | None = None
    command_line: str = ""


@dataclass(frozen=True, kw_only=True)
class OperatingSystem:
    """What runs inside: `name` for people, the rest to be found by; `module` is the OS module that drives it.

    `version` is text ("22.10" is not 22.1); `variant` says what it is made for ("server", "desktop"), if anything.
    """

    name: str
    family: str
    version: str = ""
    variant: str = ""
    architecture: str = "amd64"
    module: str = "linux"

    def __post_init__(self) -> None:
        if not self.family.strip():
            raise Refused("an operating system has no family", "say which: debian, ubuntu, windows")
        architecture = self.architecture.strip().casefold()
        object.__setattr__(self, "architecture", _ARCHITECTURES.get(architecture, architecture))

    @property
    def key(self) -> str:
        """What it is found by: `debian 12 server amd64`."""
        words = f"{self.family} {self.version} {self.variant} {self.architecture}"
        return " ".join(words.casefold().split())


@dataclass(frozen=True, kw_only=True)
class ImageDescriptor:
    """One revision of an image. Memory in MiB.

    `name` is the revision's, unique in its repository; `image` and `revision` say which one it is: names are never
    taken apart. `disks` in the order in which a machine has them. `parent` names the revision that it was made from,
    `origin` the machine that it was captured from, `captured_at` when; `recipe` is a digest of what it was built from.
    `metadata` is anybody's: kept, and not understood.
    """

    name: str
    image: str
    revision: int
    os: OperatingSystem
    disks: Sequence[Disk]
    boot: DirectBoot | None = None
    min_memory_mb: int = 512
    min_cpus: int = 1
    parent: str = ""
    origin: str = ""
    captured_at: datetime | None = None
    recipe: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        _require_name("a revision", self.name)
        _require_name("an image", self.image)
        object.__setattr__(self, "disks", tuple(self.disks))
        for count, what in ((self.revision, "revision"), (self.min_memory_mb, "memory"), (self.min_cpus, "cpus")):
            if count < (0 if what == "revision" else 1):
                raise Refused(f"{self.name} has {count} as {what}", "a whole number from 1 on")
        if self.captured_at is not None and self.captured_at.tzinfo is None:
            raise Refused(f"{self.name} was captured at {self.captured_at}, in no time zone", "add +00:00")
        _require_disks(self.name, self.disks)

    @property
    def key(self) -> str:
        """What it is found by: family, version, variant and architecture of its operating system."""
        return self.os.key

    @property
    def system_disk(self) -> Disk:
        """The disk that it boots from; there is exactly one."""
        return next(disk for disk in self.disks if disk.role is DiskRole.SYSTEM)

    @property
    def blobs(self) -> Sequence[Blob]:
        """All contents that it consists of, each once."""
        return tuple(dict.fromkeys(blob for _, blob in self._contents()))

    @property
    def size_bytes(self) -> int:
        """What it takes in a repository that has nothing else."""
        return sum(blob.bytes for blob in self.blobs)

    def said_of(self, blob: Blob) -> str:
        """What a content is in it, for people: `disk system of debian12-v3`."""
        what = next((what for what, own in self._contents() if own == blob), f"content {blob.sha256[:12]}")
        return f"{what} of {self.name}"

    def with_application_disk(self, disk: Disk, *, name: str, revision: int) -> ImageDescriptor:
        """The next revision, with this application disk in the place of the one of its name, or else as a new one.

        All other contents are shared with this revision: a new application costs its own bytes and touches no system.
        """
        if disk.role is not DiskRole.APPLICATION:
            raise Refused(f"disk {disk.name} is for {disk.role}", "an application's disk has the role application")
        names = [own.name for own in self.disks]
        if disk.name not in names:
            disks = [*self.disks, disk]
        elif self.disks[names.index(disk.name)].role is DiskRole.APPLICATION:
            disks = [disk if own.name == disk.name else own for own in self.disks]
        else:
            raise Refused(f"disk {disk.name} of {self.name} is no application's", "give the new one a name of its own")
        return replace(
            self, name=name, revision=revision, disks=disks, parent=self.name, origin="", captured_at=None, recipe=""
        )

    def _contents(self) -> Iterator[tuple[str, Blob]]:
        for disk in self.disks:
            yield f"disk {disk.name}", disk.blob
        if self.boot:
            yield "kernel", self.boot.kernel
            if self.boot.initrd:
                yield "initrd", self.boot.initrd


def require_revision_name(name: str) -> None:
    """Raises Refused for what cannot be a revision's name, or would leave the repository."""
    _require_name("a revision", name)


def _require_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise Refused(f"{name!r} cannot be the name of {what}", "letters, digits, dots, dashes, at most 128")


def _require_disks(name: str, disks: Sequence[Disk]) -> None:
    systems = [disk.name for disk in disks if disk.role is DiskRole.SYSTEM]
    if len(systems) != 1:
        said = f"has {len(systems)} system disks" if systems else "has no system disk"
        raise Refused(f"{name} {said}", "an image has exactly one disk of the role system")
    if len(disks) > MOST_DISKS:
        raise Refused(f"{name} has {len(disks)} disks", f"a machine has {MOST_DISKS} at most")
    names = [disk.name for disk in disks]
    twice = {each for each in names if names.count(each) > 1}
    if twice:
        raise Refused(f"{name} has two disks named {min(twice)}", "each disk of an image has a name of its own")
    sizes: dict[str, int] = {}
    for disk in disks:
        if sizes.setdefault(disk.blob.sha256, disk.blob.bytes) != disk.blob.bytes:
            raise Refused(f"{name} gives {disk.blob.sha256[:12]} two lengths", "measure the file again")
