"""The header of a qcow2 image. Source: QEMU's docs/interop/qcow2.txt."""

from __future__ import annotations

import struct

from vcl_provision.images.formats.header import DiskBytes, Header, foreign
from vcl_provision.images.formats.words import DiskFormat, Place

_MAGIC = b"QFI\xfb"
_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_DATA_FILE = 0x44415441
_CORRUPT, _EXTERNAL_DATA = 1 << 1, 1 << 2
_LONGEST_NAME = 1023
_EXTENSIONS = 64 << 10


def read_header(place: Place) -> Header:
    """Raises Refused if it is no qcow2 image."""
    disk = DiskBytes(place)
    start = disk.at(0, _V2.size + _V3.size)
    if len(start) < _V2.size or not start.startswith(_MAGIC):
        raise foreign(place, DiskFormat.QCOW2)
    _, version, backing_at, backing_size, _, size, crypt, _, _, _, _, snapshots, _ = _V2.unpack_from(start)
    features, length = _features(start) if version >= 3 else (0, _V2.size)
    extensions = _data_file(disk.at(length, _EXTENSIONS))
    external = extensions or ("(not named)" if features & _EXTERNAL_DATA else "")
    return Header(
        virtual_bytes=size,
        backing_file=_text(disk.at(backing_at, min(backing_size, _LONGEST_NAME))) or "?" if backing_at else "",
        data_file=external,
        encrypted=bool(crypt),
        snapshots=snapshots,
        damaged="QEMU marked it as corrupt" if features & _CORRUPT else "",
    )


def _features(start: bytes) -> tuple[int, int]:
    """The incompatible features, and where the header ends."""
    if len(start) < _V2.size + _V3.size:
        return 0, _V2.size
    features, _, _, _, length = _V3.unpack_from(start, _V2.size)
    return features, length


def _data_file(extensions: bytes) -> str:
    at = 0
    while at + _EXTENSION.size <= len(extensions):
        kind, size = _EXTENSION.unpack_from(extensions, at)
        at += _EXTENSION.size
        if kind == 0:
            break
        if kind == _DATA_FILE:
            return _text(extensions[at : at + min(size, _LONGEST_NAME)]) or "(not named)"
        at += -(-size // 8) * 8
    return ""


def _text(name: bytes) -> str:
    return name.decode("utf-8", errors="replace")
