"""The tar archive of an OVA: what lies in it and where, read without unpacking; and its headers, written.

Source: POSIX ustar and pax, as DSP0243 (OVF) asks; the base-256 sizes of GNU tar for members of 8 GiB and more.
Taken are plain files with plain names only. Nothing of a header is believed that does not fit the archive's real size.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.images.formats.header import DiskBytes
from vcl_provision.model.faults import Refused

BLOCK = tarfile.BLOCKSIZE
MOST_MEMBERS = 64
END = bytes(2 * BLOCK)
_MOST_HEADERS = 4 * MOST_MEMBERS
_MOST_EXTENDED = 64 << 10
_OCTAL_SIZES = 8 << 30
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_RECORD = re.compile(rb"(\d{1,6}) ([^=]+)=")
_AGAIN = "export the machine again, or make the archive of plain files only"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of an archive: its name, and where its bytes are."""

    name: str
    offset: int
    bytes: int


def read_index(path: Path) -> Sequence[Member]:
    """The members in their order. Raises Refused for an archive that is none, is cut off, or means harm."""
    disk = DiskBytes(path)
    members: dict[str, Member] = {}
    for member in _members(path, disk):
        if member.name.casefold() in members:
            raise Refused(f"{path} holds {member.name} twice", _AGAIN)
        if len(members) == MOST_MEMBERS:
            raise Refused(f"{path} holds more than {MOST_MEMBERS} files", "an OVA holds a descriptor and disks")
        members[member.name.casefold()] = member
    if not members:
        raise Refused(f"{path} is no OVA: it is empty", _AGAIN)
    return list(members.values())


def read_member(path: Path, member: Member, most_bytes: int) -> bytes:
    """A small member, whole. Raises Refused if it is larger than `most_bytes`."""
    if member.bytes > most_bytes:
        raise Refused(f"{member.name} in {path} has {member.bytes} bytes; at most {most_bytes} are read", _AGAIN)
    return DiskBytes(path).at(member.offset, member.bytes)


def plain_name(name: str, about: str) -> str:
    """The name, if it is that of a file right here; a leading `./` is dropped. Raises Refused otherwise."""
    name = name.removeprefix("./")
    if name in {"", ".", ".."} or not name.isprintable() or set(name) & set("/\\:"):
        raise Refused(
            f"{about} names {name[:80]!r}, which is no plain file name", "do not trust it, or export it again"
        )
    return name


def header(name: str, size: int, moment: int) -> bytes:
    """The block before a file of so many bytes; `moment` is its time, in seconds of the epoch."""
    if len(name.encode()) > tarfile.LENGTH_NAME:
        raise Refused(f"{name} is too long a name for an archive", "take a shorter name for the machine")
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, moment, 0o644
    form = tarfile.USTAR_FORMAT if size < _OCTAL_SIZES else tarfile.GNU_FORMAT
    return info.tobuf(form, "utf-8", "strict")


def padded(size: int) -> int:
    """What a file of so many bytes takes in an archive."""
    return -(-size // BLOCK) * BLOCK


def _members(path: Path, disk: DiskBytes) -> Iterator[Member]:
    at, told = 0, dict[str, str]()
    for _ in range(_MOST_HEADERS):
        block = disk.at(at, BLOCK)
        if not any(block):
            return
        info = _decoded(path, block)
        size = int(told.get("size", info.size)) if info.type in _PLAIN else info.size
        begins, at = at + BLOCK, at + BLOCK + padded(size)
        if size < 0 or begins + size > disk.bytes:
            raise Refused(f"{path} ends before {info.name[:80]!r} does: {size} bytes are said", "fetch it again")
        if info.type in _EXTENDED:
            told = _extended(path, disk.at(begins, min(size, _MOST_EXTENDED + 1)))
            continue
        yield Member(name=_checked(path, info, told), offset=begins, bytes=size)
        told = {}
    raise Refused(f"{path} holds more than {_MOST_HEADERS} headers", _AGAIN)


def _decoded(path: Path, block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise Refused(f"{path} is no OVA, or damaged: {error}", "an OVA is an uncompressed tar archive") from error


def _checked(path: Path, info: tarfile.TarInfo, told: Mapping[str, str]) -> str:
    """The member's name. Links, devices, folders, FIFOs and sparse files have no place in an OVA."""
    if info.type not in _PLAIN or any(key.startswith("GNU.sparse") for key in told):
        raise Refused(f"{path} holds {info.name[:80]!r}, which is no plain file", _AGAIN)
    return plain_name(told.get("path", info.name), str(path))


def _extended(path: Path, records: bytes) -> dict[str, str]:
    """A pax header: `LENGTH KEY=VALUE\\n`, again and again. Only `size` and `path` matter to us."""
    if len(records) > _MOST_EXTENDED:
        raise Refused(f"{path} has a header of more than {_MOST_EXTENDED} bytes", _AGAIN)
    told: dict[str, str] = {}
    at = 0
    while found := _RECORD.match(records, at):
        ends = at + int(found[1])
        if not found.end() < ends <= len(records):
            break
        told[found[2].decode("utf-8", "replace")] = records[found.end() : ends - 1].decode("utf-8", "surrogateescape")
        at = ends
    if at != len(records.rstrip(b"\0")) or not re.fullmatch("[0-9]{1,18}", told.get("size", "0")):
        raise Refused(f"{path} has a header that cannot be read", _AGAIN)
    return told
