"""The words for formats of disks, and the places where disks lie."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MOST_BYTES = 16 << 40
"""The largest virtual size that is taken for meant, in bytes, where the caller says nothing else: 16 TiB."""


class DiskFormat(StrEnum):
    """A format of disks; the word is QEMU's name for its driver too."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VDI = "vdi"
    VHDX = "vhdx"


class VmdkVariant(StrEnum):
    """The kinds of VMDK that are written here; the word is the descriptor's createType."""

    SPARSE = "monolithicSparse"
    """One file that grows: VMware Workstation, QEMU, VirtualBox."""
    STREAM = "streamOptimized"
    """One compressed file that is written once, front to back: what goes into an OVA."""
    ESX = "vmfs"
    """A small descriptor beside `NAME-flat.vmdk`, which holds every byte: what an ESXi host registers as it is."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A disk inside another file (an OVA): so many bytes from an offset on. Read where it lies, never unpacked."""

    path: Path
    offset: int
    bytes: int

    def __str__(self) -> str:
        return f"the disk at byte {self.offset} of {self.path}"


Place = Path | Slice
"""Where a disk can be read."""


def flat_name(descriptor: str) -> str:
    """The file with the bytes that belongs to a descriptor of VmdkVariant.ESX: `disk.vmdk` -> `disk-flat.vmdk`."""
    return f"{descriptor.removesuffix('.vmdk')}-flat.vmdk"
