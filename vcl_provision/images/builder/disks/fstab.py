"""What a machine mounts when it starts, by UUID: a disk may be found under another name at each boot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vcl_provision.images.builder.disks.layout import FileSystem, Layout, Partition
from vcl_provision.images.builder.disks.placing import Placed, filesystems, place


def fstab(layout: Layout, *, seed: str) -> str:
    """The file's text: the root, then what is mounted on it, each after what it lies in, then swap."""
    return "".join(_lines(list(filesystems(place(layout, seed=seed)))))


def _lines(everything: Sequence[Placed]) -> Iterator[str]:
    mounted = [placed for placed in everything if placed.partition.mount]
    for placed in sorted(mounted, key=lambda placed: (placed.partition.mount.rstrip("/").count("/"), placed.start)):
        part = placed.partition
        kind = "vfat" if part.filesystem is FileSystem.ESP else part.filesystem
        yield f"UUID={placed.uuid} {part.mount} {kind} {','.join(_options(part))} 0 {_check_order(part)}\n"
    for placed in everything:
        if placed.partition.filesystem is FileSystem.SWAP:
            yield f"UUID={placed.uuid} none swap {','.join(placed.partition.options or ('sw',))} 0 0\n"


def _options(partition: Partition) -> Sequence[str]:
    if partition.options:
        return partition.options
    if partition.filesystem is FileSystem.ESP:
        return ("umask=0077",)
    journalled = partition.filesystem is FileSystem.EXT4 and "^has_journal" not in partition.features
    return ("errors=remount-ro",) if partition.mount == "/" and journalled else ("defaults",)


def _check_order(partition: Partition) -> int:
    """xfs and btrfs are checked when they are mounted."""
    if partition.filesystem in {FileSystem.XFS, FileSystem.BTRFS}:
        return 0
    return 1 if partition.mount == "/" else 2
