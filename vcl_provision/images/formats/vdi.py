"""The header of a VDI image. Source: VirtualBox's VDICore.h (layout of VDIPREHEADER and VDIHEADER1PLUS)."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

from vcl_provision.images.formats.header import DiskBytes, Header, foreign
from vcl_provision.images.formats.words import DiskFormat, Place

_SIGNATURE = struct.Struct("<64xI")
_SIGNED = 0xBEDA107F
_HEADER = struct.Struct("<64xIIIII256xII4I4xQIIII64s")
UUIDS_AT = _HEADER.size - 64
_GROWING, _FIXED, _DIFFERENCE = 1, 2, 4
_VARIANTS = {_GROWING: "dynamic", _FIXED: "fixed"}


def read_uuid(place: Place) -> UUID:
    """What VirtualBox knows the image by. Raises Refused if it is no VDI image."""
    return UUID(bytes_le=_fields(place)[-1][:16])


def read_header(place: Place) -> Header:
    """Raises Refused if it is no VDI image."""
    fields = _fields(place)
    kind, data_at = fields[3], fields[6]
    size, block_size, block_extra, _, allocated, uuids = fields[11:]
    ends, found = data_at + allocated * (block_size + block_extra), DiskBytes(place).bytes
    linked = kind == _DIFFERENCE or any(uuids[48:64])
    return Header(
        virtual_bytes=size,
        variant=_VARIANTS.get(kind, f"type {kind}"),
        backing_file=f"the image with UUID {uuids[48:64].hex()}" if linked else "",
        damaged=f"it ends at byte {found} instead of {ends}" if found < ends else "",
    )


def _fields(place: Place) -> tuple[Any, ...]:
    start = DiskBytes(place).at(0, _HEADER.size)
    if len(start) < _HEADER.size or _SIGNATURE.unpack_from(start)[0] != _SIGNED:
        raise foreign(place, DiskFormat.VDI)
    return _HEADER.unpack(start)
