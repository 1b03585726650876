"""What a disk's own file tells it from others by: a VMDK's content number (CID), a VDI's UUIDs.

QEMU makes them at random. Where the same inputs are to give the same bytes they follow from a word instead. Sources:
those of the formats (vmdk.py, vdi.py); the UUIDs are of version 8 (RFC 9562, section 5.8).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from uuid import UUID

from vcl_provision.images.formats.vdi import UUIDS_AT
from vcl_provision.images.formats.vmdk import EMBEDDED, SECTOR, TEXT_SECTORS
from vcl_provision.images.formats.words import DiskFormat

_CONTENT_NUMBER = re.compile(rb"^CID=[0-9a-f]{1,8}$", re.MULTILINE)
_TAKEN = {0xFFFFFFFE, 0xFFFFFFFF}
"""Content numbers that mean something: one not yet written to, and no parent."""


def uuid_of(word: str) -> UUID:
    """The UUID that follows from a word."""
    number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:16], "big")
    return UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | (8 << 76) | (0x2 << 62))


def identify(path: Path, disk_format: DiskFormat, word: str, *, offset: int = 0) -> None:
    """Gives the disk that begins at `offset` of a file the numbers that follow from the word; formats without stay."""
    match disk_format:
        case DiskFormat.VMDK:
            _number_vmdk(path, offset, uuid_of(word).fields[0])
        case DiskFormat.VDI:
            _number_vdi(path, offset, [uuid_of(word), uuid_of(f"{word} snapshot")])
        case _:
            return


def _number_vmdk(path: Path, offset: int, number: int) -> None:
    """QEMU writes a number without leading zeros, and leaves behind the text what a longer one had moved there."""
    number = number - 2 if number in _TAKEN else number
    with path.open("r+b") as file:
        file.seek(offset + EMBEDDED * SECTOR)
        room = file.read(TEXT_SECTORS * SECTOR)
        text = _CONTENT_NUMBER.sub(b"CID=%08x" % number, room.partition(b"\0")[0], count=1)
        file.seek(offset + EMBEDDED * SECTOR)
        file.write(text.ljust(len(room), b"\0"))


def _number_vdi(path: Path, offset: int, uuids: list[UUID]) -> None:
    """That of the image, and that of its last snapshot, which tells VirtualBox whether it was written to elsewhere."""
    with path.open("r+b") as file:
        file.seek(offset + UUIDS_AT)
        file.write(b"".join(uuid.bytes_le for uuid in uuids))
