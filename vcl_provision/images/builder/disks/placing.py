"""Where each partition lies, and what it is known by: the same layout and seed give the same answer everywhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from vcl_provision.images.builder.disks.layout import MIB, Disk, FileSystem, Layout, Partition, Table, aligned
from vcl_provision.model.faults import Refused

SECTOR = 512


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A partition in its place.

    `number` counts from one, zero is a disk without partitions; `start` and `size` are bytes; `uuid` is the file
    system's as blkid and fstab write it, `identifier` the partition's own (GPT). A logical volume has no place: its
    `start` is zero, and so is its `size` if it has what the others leave.
    """

    partition: Partition
    number: int
    start: int
    size: int
    uuid: str
    identifier: str
    volumes: Sequence[Placed] = ()


@dataclass(frozen=True, kw_only=True)
class PlacedDisk:
    """A disk of `size` bytes; `identifier` is its GUID, for an MBR as `0x1234abcd`."""

    table: Table
    size: int
    identifier: str
    partitions: Sequence[Placed]


def place(layout: Layout, *, seed: str, sizes: Sequence[int | None] = ()) -> Sequence[PlacedDisk]:
    """Every disk of a layout. `sizes` are the bytes of the devices that disks are written to, None for a file.

    A larger device gives more to the partition that has the rest. Raises Refused for one that is too small.
    """
    disks = zip_longest(layout.disks, sizes[: len(layout.disks)])
    return [_disk(disk, size, f"{seed}/{number}") for number, (disk, size) in enumerate(disks)]


def filesystems(disks: Sequence[PlacedDisk]) -> Iterator[Placed]:
    """Every partition and logical volume, disk by disk; a physical volume's are in its place."""
    for disk in disks:
        for placed in disk.partitions:
            yield from placed.volumes or (placed,)


def root_uuid(layout: Layout, seed: str) -> str:
    """The root file system's, for `root=UUID=` on a kernel's command line."""
    return next(placed.uuid for placed in filesystems(place(layout, seed=seed)) if placed.partition.mount == "/")


def _disk(disk: Disk, device: int | None, name: str) -> PlacedDisk:
    needed = _needed(disk)
    if device is not None and device < needed:
        said = f"a device of {device // MIB} MiB is too small for disk {int(name.rpartition('/')[2]) + 1}"
        raise Refused(f"{said}, which needs {needed // MIB} MiB", "take a larger device, or smaller partitions")
    size = device or needed
    identifier = _guid(name)
    if disk.table is Table.MBR:
        identifier = f"0x{identifier[:8]}"
    partitions = list(_partitions(disk, size, name))
    return PlacedDisk(table=disk.table, size=size, identifier=identifier, partitions=partitions)


def _needed(disk: Disk) -> int:
    if disk.size is not None:
        return aligned(disk.size)
    return _margin(disk) * 2 + sum(aligned(partition.size or 0) for partition in disk.partitions)


def _margin(disk: Disk) -> int:
    """Bytes before the first partition and after the last: tables, and a BIOS's boot loader."""
    return 0 if disk.table is Table.NONE else MIB


def _partitions(disk: Disk, size: int, name: str) -> Iterator[Placed]:
    margin = _margin(disk)
    end = size // MIB * MIB - margin if margin else size
    rest = end - margin - sum(aligned(partition.size) for partition in disk.partitions if partition.size is not None)
    start = margin
    for number, partition in enumerate(disk.partitions, start=1):
        own = f"{name}/{number}"
        taken = end if disk.table is Table.NONE else rest if partition.size is None else aligned(partition.size)
        yield Placed(
            partition=partition,
            number=0 if disk.table is Table.NONE else number,
            start=start,
            size=taken,
            uuid=_filesystem_uuid(partition, own),
            identifier=_guid(own),
            volumes=list(_volumes(partition, own)),
        )
        start += taken


def _volumes(partition: Partition, name: str) -> Iterator[Placed]:
    for volume in partition.volumes:
        own = f"{name}/{volume.label}"
        uid = _filesystem_uuid(volume, own)
        yield Placed(partition=volume, number=0, start=0, size=volume.size or 0, uuid=uid, identifier=_guid(own))


def _filesystem_uuid(partition: Partition, name: str) -> str:
    uid = _guid(f"{name}/{partition.filesystem}")
    if partition.filesystem is FileSystem.ESP:  # FAT has a serial number of four bytes
        return f"{uid[:4]}-{uid[4:8]}".upper()
    return uid


def _guid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"vcl-disk/{name}"))
