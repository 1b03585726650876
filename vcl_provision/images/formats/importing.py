"""A machine out of an OVA or OVF: each disk converted from where it lies in the package, nothing unpacked first."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.formats.disks import convert, inspect
from vcl_provision.images.formats.envelope import PackedDisk
from vcl_provision.images.formats.machine import Machine
from vcl_provision.images.formats.manifest import CHUNK
from vcl_provision.images.formats.package import Limits, open_package, verify_package
from vcl_provision.images.formats.placing import new_files
from vcl_provision.images.formats.progress import Counted, Progress
from vcl_provision.images.formats.qemu_img import most_written
from vcl_provision.images.formats.words import DiskFormat, Place, Slice
from vcl_provision.model.faults import Refused

_CAPACITY_SLACK = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came in: the machine, its disks in their order, and whether a manifest vouched for every byte."""

    machine: Machine
    disks: Sequence[Path]
    verified: bool


def import_package(
    path: Path,
    folder: Path,
    disk_format: DiskFormat,
    *,
    channel: Channel,
    patience: Patience,
    compression: str = "",
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Makes `folder` with the disks of a package in it, `disk1.qcow2` and so on: all of them, or no folder.

    A manifest, if there is one, is compared first. Raises Refused for a folder that is there, and for whatever in the
    package does not fit or means harm (see `open_package`); Cancelled, TimedOut.
    """
    limits = limits or Limits()
    package = open_package(path, limits=limits)
    described = package.envelope.disks
    files = sum(part.bytes for part in package.parts.values()) if package.digests else 0
    counted = Counted(progress, files + sum(disk.virtual_bytes for disk in described))
    verified = verify_package(package, patience=patience, told=counted.more)
    names = [f"disk{n}.{disk_format}" for n in range(1, len(described) + 1)]
    with new_files(folder, overwrite=False) as made:
        made.mkdir()
        for disk, name in zip(described, names, strict=True):
            with _unpacked(package.parts[disk.file], disk, made / f"{name}.unpacked", patience) as place:
                _check_capacity(place, disk, channel, patience)
                convert(
                    place,
                    disk.format,
                    made / name,
                    disk_format,
                    channel=channel,
                    patience=patience,
                    compression=compression,
                    progress=counted.within,
                )
            counted.more(disk.virtual_bytes)
    return Imported(machine=package.envelope.machine, disks=[folder / name for name in names], verified=verified)


def _check_capacity(place: Place, disk: PackedDisk, channel: Channel, patience: Patience) -> None:
    """A disk that is larger than its descriptor says would get round every limit."""
    facts = inspect(place, disk.format, channel=channel, patience=patience)
    if facts.virtual_bytes > disk.virtual_bytes + _CAPACITY_SLACK:
        said = f"{disk.file} has {facts.virtual_bytes} bytes instead of the {disk.virtual_bytes} that are said"
        raise Refused(said, "do not trust it, or export it again")


@contextlib.contextmanager
def _unpacked(part: Slice, disk: PackedDisk, beside: Path, patience: Patience) -> Generator[Place]:
    """Where the disk can be read: in the package itself, or unpacked for so long if gzip lies around it."""
    if not disk.gzip:
        yield part
        return
    try:
        _gunzip(part, beside, most_written(disk.virtual_bytes), patience)
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _gunzip(part: Slice, target: Path, most_bytes: int, patience: Patience) -> None:
    """Raises Refused as soon as more comes out than the disk could have: a bomb is not unpacked to its end."""
    written = 0
    with target.open("wb") as unpacked:
        for piece in _unpacked_pieces(part, patience):
            written += len(piece)
            if written > most_bytes:
                raise Refused(f"{part} unpacks to more than {most_bytes} bytes", "do not trust it, or export it again")
            unpacked.write(piece)


def _unpacked_pieces(part: Slice, patience: Patience) -> Iterator[bytes]:
    """What lies in gzip, in pieces of at most CHUNK bytes."""
    unpacker, left, unread = zlib.decompressobj(_GZIP), part.bytes, b""
    with part.path.open("rb") as packed:
        packed.seek(part.offset)
        while not unpacker.eof:
            patience.check()
            unread = unread or packed.read(min(CHUNK, left))
            left = part.offset + part.bytes - packed.tell()
            try:
                piece = unpacker.decompress(unread, CHUNK)
            except zlib.error as error:
                raise Refused(f"{part} is said to be packed with gzip: {error}", "fetch it again") from error
            if not (unread or piece or unpacker.eof):
                raise Refused(f"{part} is packed with gzip and ends too early", "fetch it again")
            unread = unpacker.unconsumed_tail
            yield piece
