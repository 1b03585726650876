"""Partition tables, as a script for sfdisk: https://man7.org/linux/man-pages/man8/sfdisk.8.html, "Input formats"."""

from __future__ import annotations

from vcl_provision.images.builder.disks.layout import FileSystem, Partition, Table
from vcl_provision.images.builder.disks.placing import SECTOR, Placed, PlacedDisk

_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
_GPT_TYPES = {
    FileSystem.SWAP: "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
    FileSystem.ESP: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    FileSystem.LVM: "E6D6D379-F507-44C2-A23C-238F2A3DF928",
    FileSystem.BIOS_BOOT: "21686148-6449-6E6F-744E-656564454649",
}
_MBR_TYPES = {FileSystem.SWAP: "82", FileSystem.ESP: "ef", FileSystem.LVM: "8e"}


def sfdisk_script(disk: PlacedDisk) -> str:
    """The disk's table, every number and name given, so that sfdisk decides nothing."""
    head = [
        f"label: {'gpt' if disk.table is Table.GPT else 'dos'}",
        f"label-id: {disk.identifier}",
        "unit: sectors",
        f"sector-size: {SECTOR}",
    ]
    return "\n".join([*head, "", *(_line(disk, placed) for placed in disk.partitions)]) + "\n"


def _line(disk: PlacedDisk, placed: Placed) -> str:
    filesystem = placed.partition.filesystem
    words = [f"start={placed.start // SECTOR}", f"size={placed.size // SECTOR}"]
    if disk.table is Table.GPT:
        words += [f"type={_GPT_TYPES.get(filesystem, _LINUX)}", f"uuid={placed.identifier}"]
        words.append(f'name="{_name(placed.partition)}"')
    else:
        words.append(f"type={_MBR_TYPES.get(filesystem, '83')}")
        if placed.partition.mount == "/":
            words.append("bootable")  # a BIOS there is that boots from no disk without one
    return ", ".join(words)


def _name(partition: Partition) -> str:
    return partition.label or partition.mount.strip("/").replace("/", "-") or ("root" if partition.mount else "")
