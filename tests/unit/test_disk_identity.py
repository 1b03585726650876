"""The numbers in disks' own files, where they are to follow from a word."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from vcl_provision.images.formats import vdi
from vcl_provision.images.formats.identity import identify, uuid_of
from vcl_provision.images.formats.vmdk import SECTOR
from vcl_provision.images.formats.words import DiskFormat

TEXT = b"# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=ffffffff\n"
ROOM = 20 * SECTOR


def vmdk_of(path: Path, content_number: bytes, left: bytes = b"", before: int = 0) -> bytes:
    """What becomes of a file with this descriptor, and with what QEMU left behind it."""
    text = (TEXT % content_number + b"\0" + left).ljust(ROOM, b"\0")
    path.write_bytes(b"\0" * before + b"KDMV".ljust(SECTOR, b"\0") + text + b"content")
    identify(path, DiskFormat.VMDK, "a word", offset=before)
    return path.read_bytes()[before:]


def test_a_vmdk_s_number_follows_from_the_word_whatever_it_was(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    long = vmdk_of(path, b"9e43784b")
    assert long == vmdk_of(path, b"146d67", left=b"\n") == vmdk_of(path, b"0", before=3 * SECTOR)
    assert long[SECTOR:].startswith(TEXT % long[SECTOR:].partition(b"CID=")[2][:8])
    assert long.endswith(b"content")
    identify(path, DiskFormat.VMDK, "another", offset=3 * SECTOR)
    assert path.read_bytes()[3 * SECTOR :] != long


def test_a_vdi_s_uuids_follow_from_the_word(tmp_path: Path) -> None:
    path = tmp_path / "disk.vdi"
    path.write_bytes(bytes(64) + (0xBEDA107F).to_bytes(4, "little") + bytes(1024))
    identify(path, DiskFormat.VDI, "a word")
    assert vdi.read_uuid(path) == uuid_of("a word")
    assert path.stat().st_size == 64 + 4 + 1024


def test_a_uuid_is_one_that_says_that_it_was_computed() -> None:
    uuid = uuid_of("a word")
    assert isinstance(uuid, UUID)
    assert (uuid.variant, uuid.version) == ("specified in RFC 4122", 8)
    assert uuid != uuid_of("another")


@pytest.mark.parametrize("disk_format", [DiskFormat.RAW, DiskFormat.QCOW2, DiskFormat.VHDX])
def test_other_formats_stay_as_they_are(tmp_path: Path, disk_format: DiskFormat) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"content" * 1000)
    identify(path, disk_format, "a word")
    assert path.read_bytes() == b"content" * 1000
