"""How the disks of a machine are divided: frozen values that cannot be wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vcl_provision.model.faults import Refused

MIB, GIB = 1 << 20, 1 << 30
ESP_MOUNT = "/boot/efi"
_MOUNT = re.compile(r"/|(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._+@-]+)+")
_OPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=:/+-]*")
_FEATURE = re.compile(r"\^?[a-z0-9_]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class Table(StrEnum):
    """How a disk says where its partitions are."""

    GPT = "gpt"
    MBR = "mbr"
    NONE = "none"
    """No partitions: the whole disk is one file system."""


class FileSystem(StrEnum):
    """What a partition holds."""

    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"
    SWAP = "swap"
    ESP = "esp"
    """FAT that UEFI firmware reads boot loaders from."""
    LVM = "lvm"
    """A physical volume; logical volumes hold the file systems."""
    BIOS_BOOT = "biosboot"
    """No file system: room for a boot loader, where a BIOS boots from GPT."""
    NONE = "none"
    """Nothing: room for whatever the machine makes of it."""


MOUNTABLE = frozenset({FileSystem.EXT4, FileSystem.XFS, FileSystem.BTRFS, FileSystem.ESP})
_LABEL_LENGTH = {
    FileSystem.EXT4: 16,
    FileSystem.XFS: 12,
    FileSystem.BTRFS: 255,
    FileSystem.SWAP: 15,
    FileSystem.ESP: 11,
}
_SMALLEST = {
    FileSystem.XFS: 300 * MIB,  # mkfs.xfs makes none smaller since 5.19
    FileSystem.BTRFS: 110 * MIB,
    FileSystem.ESP: 34 * MIB,  # the least that FAT32 can be
}
_MBR_REACH = 2 << 40


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One partition, or one logical volume.

    `mount` is an absolute path, or empty if it is mounted nowhere; `size` is bytes, None for all that the others leave;
    `label` the file system's; `options` are for mounting (fstab); `features` are for `mke2fs -O`. A physical volume
    (FileSystem.LVM) has the name of its volume `group` and its logical `volumes`, which are named by their labels.
    """

    filesystem: FileSystem = FileSystem.EXT4
    mount: str = ""
    size: int | None = None
    label: str = ""
    options: Sequence[str] = ()
    features: Sequence[str] = ()
    group: str = ""
    volumes: Sequence[Partition] = ()


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One disk: `size` is bytes, None for what its partitions need."""

    partitions: Sequence[Partition]
    table: Table = Table.GPT
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All disks of a machine, the one that it boots from first.

    Raises Refused, naming everything that is wrong.
    """

    disks: Sequence[Disk]

    def __post_init__(self) -> None:
        wrong = [f"disk {problem.place[0] + 1}: {problem.said}" for problem in problems(self.disks)]
        if wrong:
            raise Refused("the disk layout cannot be used: " + "; ".join(wrong), "see docs/disk-layouts.md")

    @property
    def root(self) -> Partition:
        """What is mounted at `/`."""
        return next(partition for partition in self.filesystems() if partition.mount == "/")

    def filesystems(self) -> Iterator[Partition]:
        """Every partition and logical volume, disk by disk; a physical volume's are in its place."""
        for disk in self.disks:
            for partition in disk.partitions:
                yield from partition.volumes or (partition,)


def whole_disk(
    size: int, *, filesystem: FileSystem = FileSystem.EXT4, label: str = "", features: Sequence[str] = ()
) -> Layout:
    """One disk of so many bytes without partitions, for a kernel that is handed to the machine."""
    root = Partition(filesystem=filesystem, mount="/", label=label, features=features)
    return Layout(disks=[Disk(table=Table.NONE, size=size, partitions=[root])])


def from_sizes(
    *, root: int, swap: int = 0, opt: int = 0, table: Table = Table.GPT, filesystem: FileSystem = FileSystem.EXT4
) -> Layout:
    """One disk from sizes in bytes (VMBuilder's --rootsize, --swapsize, --optsize), zero for none.

    The root comes last, so that it can grow when the disk does.
    """
    partitions = [
        *([Partition(filesystem=FileSystem.SWAP, size=swap)] if swap else []),
        *([Partition(filesystem=filesystem, mount="/opt", size=opt)] if opt else []),
        Partition(filesystem=filesystem, mount="/", size=root),
    ]
    return Layout(disks=[Disk(table=table, partitions=partitions)])


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong: `place` is the number of its disk, of its partition (None: the disk itself), from zero."""

    place: tuple[int, int | None]
    said: str


def problems(disks: Sequence[Disk]) -> Iterator[Problem]:
    """Everything that keeps these disks from being a layout."""
    for number, disk in enumerate(disks):
        for said in _of_disk(disk):
            yield Problem(place=(number, None), said=said)
        for index, partition in enumerate(disk.partitions):
            for said in _of_partition(partition):
                yield Problem(place=(number, index), said=said)
    yield from _of_all(disks)


def _of_all(disks: Sequence[Disk]) -> Iterator[Problem]:
    seen: Counter[str] = Counter()
    for number, disk in enumerate(disks):
        for index, partition in enumerate(disk.partitions):
            for name in _names(partition):
                seen[name] += 1
                if seen[name] == 2:
                    yield Problem(place=(number, index), said=f"{name} is there twice")
    if not seen["/"]:
        yield Problem(place=(0, None), said="nothing is mounted at /")


def _names(partition: Partition) -> Iterator[str]:
    """What may be in a layout once only."""
    for part in partition.volumes or (partition,):
        if part.mount:
            yield part.mount
    if partition.filesystem is FileSystem.LVM:
        yield f"the volume group {partition.group}"


def _of_disk(disk: Disk) -> Iterator[str]:
    open_ended = [partition for partition in disk.partitions if partition.size is None]
    if not disk.partitions:
        yield "it has no partitions"
    if disk.table is Table.NONE and len(disk.partitions) > 1:
        yield "without a partition table it holds one file system only"
    if disk.table is Table.MBR and len(disk.partitions) > 4:
        yield f"an MBR has room for 4 partitions, not {len(disk.partitions)}: take gpt"
    if disk.table is Table.MBR and any(part.filesystem is FileSystem.BIOS_BOOT for part in disk.partitions):
        yield "an MBR needs no biosboot partition"
    if len(open_ended) > 1:
        yield "only one partition can have the rest"
    if open_ended and disk.size is None:
        yield "a partition with the rest needs the disk's own size"
    if disk.table is Table.MBR and _needed(disk) > _MBR_REACH:
        yield "an MBR reaches 2 TiB: take gpt"
    if disk.size is not None and _needed(disk) > disk.size:
        yield f"its partitions need {_needed(disk) // MIB} MiB, it has {disk.size // MIB}"


def _needed(disk: Disk) -> int:
    """Bytes: what the partitions say, 1 MiB before and 1 MiB after them for the tables."""
    around = 0 if disk.table is Table.NONE else 2 * MIB
    return max(disk.size or 0, around + sum(aligned(part.size or MIB) for part in disk.partitions))


def aligned(size: int) -> int:
    """Bytes, up to the next whole MiB: where every partition begins and ends."""
    return -(-size // MIB) * MIB


def _of_partition(partition: Partition) -> Iterator[str]:
    what = partition.mount or partition.filesystem
    if partition.mount and not _MOUNT.fullmatch(partition.mount):
        yield f"{partition.mount!r} is no mount point: an absolute path of letters, digits and ._+@-"
    if partition.mount and partition.filesystem not in MOUNTABLE:
        yield f"{partition.filesystem} cannot be mounted at {partition.mount}"
    if partition.mount == "/" and partition.filesystem is FileSystem.ESP:
        yield "an esp cannot be the root"
    smallest = _SMALLEST.get(partition.filesystem, MIB)
    if partition.size is not None and partition.size < smallest:
        yield f"{what} is too small: {partition.filesystem} needs {smallest // MIB} MiB"
    yield from _of_words(partition, what)
    if partition.filesystem is FileSystem.LVM:
        yield from _of_group(partition)
    elif partition.volumes or partition.group:
        yield f"{what} has logical volumes, which only lvm can"


def _of_words(partition: Partition, what: str) -> Iterator[str]:
    longest = _LABEL_LENGTH.get(partition.filesystem, 0)
    if partition.label and not (_NAME.fullmatch(partition.label) and len(partition.label) <= longest):
        yield f"{what} cannot have the label {partition.label!r}: {longest} letters, digits or ._+- at most"
    for option in partition.options:
        if not _OPTION.fullmatch(option):
            yield f"{what} cannot have the mount option {option!r}"
    for feature in partition.features:
        if partition.filesystem is not FileSystem.EXT4 or not _FEATURE.fullmatch(feature):
            yield f"{what} cannot have the feature {feature!r}: only ext4 has some, as `mke2fs -O` takes them"


def _of_group(partition: Partition) -> Iterator[str]:
    if not _NAME.fullmatch(partition.group):
        yield f"{partition.group!r} cannot be a volume group's name"
    if not partition.volumes:
        yield f"the volume group {partition.group} has no volumes"
    for volume in partition.volumes:
        if not volume.label:
            yield f"a logical volume of {partition.group} has no label to be named by"
        if volume.filesystem in {FileSystem.LVM, FileSystem.BIOS_BOOT, FileSystem.ESP}:
            yield f"{volume.filesystem} cannot be in a logical volume"
        yield from _of_partition(volume)
    duplicates = [label for label, count in Counter(volume.label for volume in partition.volumes).items() if count > 1]
    yield from (f"two logical volumes of {partition.group} are named {label}" for label in duplicates)
