"""The header of a VHDX image. Source: Microsoft's [MS-VHDX], sections 2.2 (headers) and 2.6 (metadata region)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from uuid import UUID

from vcl_provision.images.formats.header import DiskBytes, Header, foreign
from vcl_provision.images.formats.words import DiskFormat, Place

_MAGIC = b"vhdxfile"
_REGION_TABLE = 192 << 10
_TABLE_SIZE = 64 << 10
_REGIONS = struct.Struct("<4sIII")
_REGION = struct.Struct("<16sQII")
_METADATA = struct.Struct("<8sHH20x")
_ITEM = struct.Struct("<16sIIII")
_METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_VIRTUAL_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
_PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
_HAS_PARENT = 1 << 1


def read_header(place: Place) -> Header:
    """Raises Refused if it is no VHDX image, or one without the tables that each must have."""
    disk = DiskBytes(place)
    if disk.at(0, len(_MAGIC)) != _MAGIC:
        raise foreign(place, DiskFormat.VHDX)
    items = dict(_items(disk))
    if len(items.get(_VIRTUAL_SIZE, b"")) < 8 or len(items.get(_FILE_PARAMETERS, b"")) < 8:
        return Header(virtual_bytes=0, damaged="its tables of metadata cannot be read")
    _, flags = struct.unpack_from("<II", items[_FILE_PARAMETERS])
    linked = flags & _HAS_PARENT or _PARENT_LOCATOR in items
    return Header(
        virtual_bytes=struct.unpack_from("<Q", items[_VIRTUAL_SIZE])[0],
        backing_file=_parent(items.get(_PARENT_LOCATOR, b"")) if linked else "",
    )


def _items(disk: DiskBytes) -> Iterator[tuple[UUID, bytes]]:
    """The items of metadata, at most so many as a table has room for."""
    for begins in _metadata_regions(disk.at(_REGION_TABLE, _TABLE_SIZE)):
        table = disk.at(begins, _TABLE_SIZE)
        if len(table) < _METADATA.size:
            return
        count = _METADATA.unpack_from(table)[2]
        for at in range(_METADATA.size, min(len(table) - _ITEM.size, _METADATA.size + count * _ITEM.size), _ITEM.size):
            name, offset, size, _, _ = _ITEM.unpack_from(table, at)
            yield UUID(bytes_le=name), disk.at(begins + offset, min(size, _TABLE_SIZE))


def _metadata_regions(table: bytes) -> Iterator[int]:
    if len(table) < _REGIONS.size or not table.startswith(b"regi"):
        return
    count = _REGIONS.unpack_from(table)[2]
    for at in range(_REGIONS.size, min(len(table) - _REGION.size, _REGIONS.size + count * _REGION.size), _REGION.size):
        name, offset, _, _ = _REGION.unpack_from(table, at)
        if UUID(bytes_le=name) == _METADATA_REGION:
            yield offset


def _parent(locator: bytes) -> str:
    """What a locator says, for people: its entries are UTF-16 text."""
    text = locator[20:].decode("utf-16-le", errors="ignore")
    said = "".join(letter for letter in text if letter.isprintable() and letter.isascii())
    return said or "a parent that is not named"
