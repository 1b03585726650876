"""What the first bytes of a disk say about it, as a value: read here, before QEMU may open what they point to."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.images.formats.words import DiskFormat, Place, Slice
from vcl_provision.model.faults import Refused


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a disk says of itself. Sizes in bytes; names exactly as they stand in it.

    `backing_file`, `data_file` and `extents` are other files that it wants; `damaged` says what is wrong, if anything.
    """

    virtual_bytes: int
    variant: str = ""
    backing_file: str = ""
    data_file: str = ""
    extents: Sequence[str] = ()
    encrypted: bool = False
    snapshots: int = 0
    damaged: str = ""


class DiskBytes:
    """The bytes of a disk, read at offsets: less than was asked for at the end, never beyond a slice."""

    def __init__(self, place: Place) -> None:
        path = place.path if isinstance(place, Slice) else place
        self._begins = place.offset if isinstance(place, Slice) else 0
        self.path = path
        self.bytes = place.bytes if isinstance(place, Slice) else _size_of(path)

    def at(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.bytes - offset))
        with self.path.open("rb") as file:
            file.seek(self._begins + min(offset, self.bytes))
            return file.read(size)


def checked_file(path: Path) -> Path:
    """The path, if it is a plain file or a block device. Raises Refused: a FIFO would hang us, a folder is no disk."""
    try:
        mode = path.stat().st_mode
    except OSError as no:
        raise Refused(f"{path} cannot be read: {no.strerror}", "check the path, and who may read it") from no
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise Refused(f"{path} is neither a file nor a block device", "name the disk itself")
    return path


def foreign(place: Place, disk_format: DiskFormat) -> Refused:
    """The error for a disk that is not of the format that it is said to be."""
    return Refused(f"{place} is no {disk_format} image", "name the format that it really has")


def _size_of(path: Path) -> int:
    with checked_file(path).open("rb") as file:
        return file.seek(0, 2)  # a block device's stat says 0
