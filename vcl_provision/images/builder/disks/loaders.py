"""Who starts the kernel: whoever starts the machine, a BIOS, or UEFI firmware."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from vcl_provision.images.builder.disks.layout import ESP_MOUNT, MIB, FileSystem, Layout, Partition, Table
from vcl_provision.model.faults import Refused

ESP_SIZE = 64 * MIB
CORE_SIZE = MIB


class Loader(StrEnum):
    """How a machine with these disks begins."""

    DIRECT = "direct"
    """The hypervisor is handed kernel and first ram disk; the disks need no partitions."""
    BIOS = "bios"
    UEFI = "uefi"
    EITHER = "bios+uefi"
    """The same disks under both."""

    @property
    def bios(self) -> bool:
        return self in {Loader.BIOS, Loader.EITHER}

    @property
    def uefi(self) -> bool:
        return self in {Loader.UEFI, Loader.EITHER}


def bootable(layout: Layout, loader: Loader) -> Layout:
    """The layout with the small partitions that the loader needs on the first disk, before the others.

    Those that are there already are kept. Raises Refused if the first disk cannot be booted from in that way.
    """
    first = layout.disks[0]
    if loader is Loader.DIRECT:
        return layout
    if first.table is Table.NONE:
        said = f"a disk without a partition table cannot be booted from by {loader}"
        raise Refused(said, "give it a table: gpt, or mbr; or take direct, which needs none")
    there = {partition.filesystem for partition in first.partitions}
    added = [partition for partition in _needed(loader, first.table) if partition.filesystem not in there]
    disk = replace(first, partitions=[*added, *first.partitions])
    return replace(layout, disks=[disk, *layout.disks[1:]])


def _needed(loader: Loader, table: Table) -> Sequence[Partition]:
    core = Partition(filesystem=FileSystem.BIOS_BOOT, size=CORE_SIZE)
    esp = Partition(filesystem=FileSystem.ESP, mount=ESP_MOUNT, size=ESP_SIZE, label="EFI")
    return [*([core] if loader.bios and table is Table.GPT else []), *([esp] if loader.uefi else [])]
