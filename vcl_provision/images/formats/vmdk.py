"""VMDK descriptors and the header of sparse extents.

Source: VMware's "Virtual Disk Format 5.0" (descriptor, hosted sparse extents); QEMU's block/vmdk.c for what it follows
in them: it searches the whole descriptor for a parent's name, comments too, and takes the extents of a sparse file that
claims no capacity from its descriptor. So a descriptor is taken only if every line is understood.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vcl_provision.images.formats.header import DiskBytes, Header, foreign
from vcl_provision.images.formats.words import DiskFormat, Place, Slice, VmdkVariant, flat_name
from vcl_provision.model.faults import Refused

SECTOR = 512
_SPARSE_HEADER = struct.Struct("<4sIIQQQQ")
_TEXT_MAGIC = b"# Disk DescriptorFile"
_LONGEST = 64 << 10
EMBEDDED, TEXT_SECTORS = 1, 20
"""Where QEMU lays the descriptor of a sparse file, and the sectors that it keeps for it."""
_EXTENT = re.compile(r'(RW|RDONLY|NOACCESS) (\d{1,15}) ([A-Z]+)(?: "([^"]*)")?(?: (\d{1,15}))?')
_ENTRY = re.compile(r"[A-Za-z][\w.-]*\s*=.*")
_NO_PARENT = "ffffffff"
_FLAT = ("FLAT", "VMFS")


@dataclass(frozen=True, kw_only=True)
class Extent:
    """One line of a descriptor: so many bytes of the disk lie in the file `name`, from `offset` on."""

    kind: str
    bytes: int
    name: str
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """What a descriptor says: its createType, where the disk's bytes lie, and the parent that it names."""

    variant: str
    extents: Sequence[Extent]
    parent: str

    @property
    def virtual_bytes(self) -> int:
        return sum(extent.bytes for extent in self.extents)


def read_header(place: Place) -> Header:
    """Raises Refused if it is no VMDK, or one that is not understood to the last line."""
    disk = DiskBytes(place)
    start = disk.at(0, SECTOR)
    if start.startswith(b"KDMV"):
        return _sparse(place, disk, start)
    if start.startswith(b"COWD"):
        raise Refused(f"{place} is a part of a VMDK without its descriptor", "export the machine as OVF or OVA")
    if start.startswith(_TEXT_MAGIC):
        return _text_only(place, disk)
    raise foreign(place, DiskFormat.VMDK)


def parse_descriptor(text: bytes, about: Place) -> Descriptor:
    """Raises Refused, naming the first line that is not understood."""
    whole = text.partition(b"\0")[0].decode("latin-1")
    entries: dict[str, str] = {}
    extents: list[Extent] = []
    for line in whole.replace("\r\n", "\n").split("\n"):
        if extent := _EXTENT.fullmatch(line.rstrip()):
            extents.append(_extent(extent))
        elif _ENTRY.fullmatch(line):
            name, _, value = line.partition("=")
            entries[name.strip()] = value.strip().strip('"')
        elif line.strip() and not line.startswith("#"):
            raise Refused(f"{about} has a line in its descriptor that is not understood: {line[:80]!r}", _AGAIN)
    return Descriptor(variant=entries.get("createType", ""), extents=extents, parent=_parent(whole, entries))


def flat_descriptor(name: str, virtual_bytes: int, adapter: str) -> str:
    """The descriptor of VmdkVariant.ESX for a file of so many bytes beside it; `name` is the descriptor's own."""
    sectors = virtual_bytes // SECTOR
    heads, per_track = (16, 63) if adapter == "ide" else (255, 63)
    return "\n".join(
        (
            "# Disk DescriptorFile",
            "version=1",
            "CID=fffffffe",
            "parentCID=ffffffff",
            f'createType="{VmdkVariant.ESX}"',
            "",
            "# Extent description",
            f'RW {sectors} VMFS "{flat_name(name)}"',
            "",
            "# The Disk Data Base",
            "#DDB",
            "",
            'ddb.virtualHWVersion = "13"',
            f'ddb.geometry.cylinders = "{min(65535, max(1, sectors // (heads * per_track)))}"',
            f'ddb.geometry.heads = "{heads}"',
            f'ddb.geometry.sectors = "{per_track}"',
            f'ddb.adapterType = "{adapter}"',
            "",
        )
    )


_AGAIN = "export its machine again, as OVF or OVA"


def _extent(found: re.Match[str]) -> Extent:
    _, sectors, kind, name, offset = found.groups()
    return Extent(kind=kind, bytes=int(sectors) * SECTOR, name=name or "", offset=int(offset or 0) * SECTOR)


def _parent(whole: str, entries: dict[str, str]) -> str:
    if "parentFileNameHint" in whole:
        return entries.get("parentFileNameHint", "") or "a parent named in a comment"
    content = entries.get("parentCID", _NO_PARENT).lower()
    return "" if content == _NO_PARENT else f"the disk with CID {content}"


def _sparse(place: Place, disk: DiskBytes, start: bytes) -> Header:
    """A file that holds descriptor and disk. It must say what it holds itself, and name nothing but itself."""
    if len(start) < SECTOR:
        raise foreign(place, DiskFormat.VMDK)
    _, _, _, capacity, _, described_at, _ = _SPARSE_HEADER.unpack_from(start)
    if capacity == 0 or described_at != EMBEDDED:
        raise Refused(f"{place} is a part of a VMDK, or hides where its content lies", _AGAIN)
    described = parse_descriptor(disk.at(SECTOR, _LONGEST), place)
    if [extent.kind for extent in described.extents] != ["SPARSE"]:
        raise Refused(f"{place} is one file, but its descriptor speaks of others", _AGAIN)
    return Header(virtual_bytes=capacity * SECTOR, variant=described.variant, backing_file=described.parent)


def _text_only(place: Place, disk: DiskBytes) -> Header:
    """A descriptor that stands alone: what it describes lies in other files."""
    if disk.bytes > _LONGEST:
        raise Refused(f"{place} is no descriptor: it has {disk.bytes} bytes", _AGAIN)
    described = parse_descriptor(disk.at(0, _LONGEST), place)
    return Header(
        virtual_bytes=described.virtual_bytes,
        variant=described.variant,
        backing_file=described.parent,
        extents=[extent.name or extent.kind for extent in described.extents],
        damaged=_wrong_pair(place, described),
    )


def _wrong_pair(place: Place, described: Descriptor) -> str:
    """Why this is not one descriptor with its one flat file beside it, whole; empty if it is."""
    if isinstance(place, Slice):
        return "it describes other files, where there can be none"
    extents = described.extents
    if len(extents) != 1 or extents[0].kind not in _FLAT or extents[0].name != flat_name(place.name):
        return f"it is made of other files than {flat_name(place.name)}"
    flat = place.with_name(extents[0].name)
    if flat.is_symlink() or not flat.is_file():
        return f"{flat.name} is not there beside it, as a plain file"
    if flat.stat().st_size < extents[0].offset + extents[0].bytes:
        return f"{flat.name} is shorter than it says"
    return ""
