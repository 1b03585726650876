"""Whether a folder is an image, and whether the image is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vcl_provision.images.manifest import (
    NAME,
    ImageManifest,
    Role,
    describe_file,
    read_manifest,
    verify,
    write_manifest,
)
from vcl_provision.model.faults import Refused


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder that is a whole image."""
    (tmp_path / "disk.qcow2").write_bytes(b"a disk")
    (tmp_path / "vmlinuz").write_bytes(b"a kernel")
    manifest = ImageManifest(
        name="small-v1",
        os="Debian",
        architecture="x86_64",
        kernel_command_line="root=/dev/vda",
        min_memory_mb=192,
        virtual_size_bytes=1 << 30,
        files=[
            describe_file(tmp_path / "disk.qcow2", Role.DISK, "qcow2"),
            describe_file(tmp_path / "vmlinuz", Role.KERNEL, "raw"),
        ],
    )
    write_manifest(tmp_path, manifest)
    return tmp_path


def change(image: Path, **fields: Any) -> None:
    """Writes the manifest with other fields; None leaves one out."""
    said = {**json.loads((image / NAME).read_text()), **fields}
    (image / NAME).write_text(json.dumps({name: value for name, value in said.items() if value is not None}))


def test_a_manifest_is_read_as_it_was_written(image: Path) -> None:
    manifest = verify(image)
    assert manifest == read_manifest(image)
    assert (manifest.name, manifest.virtual_size_bytes, manifest.size_bytes) == ("small-v1", 1 << 30, 14)
    disk = manifest.file(Role.DISK)
    assert disk
    assert (disk.name, disk.format, disk.bytes) == ("disk.qcow2", "qcow2", 6)
    assert manifest.file(Role.INITRD) is None


def test_a_folder_without_a_manifest_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"{NAME} is missing"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "17", "\xff", '{"format": 1}'])
def test_a_manifest_that_is_none_is_refused_by_its_path(image: Path, text: str) -> None:
    (image / NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(Refused, match=NAME) as refusal:
        read_manifest(image)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"name": None}, "has no name"),
        ({"min_memory_mb": "192"}, "'192' as min_memory_mb, which is no int"),
        ({"virtual_size_bytes": True}, "True as virtual_size_bytes"),
        ({"files": []}, "names no disk"),
        ({"files": ["disk.qcow2"]}, "a file that is no JSON object"),
        ({"files": [{"role": "disk", "name": "../disk"}]}, "does not lie in the image's folder"),
        ({"files": [{"role": "disk", "name": "/dev/sda"}]}, "does not lie in the image's folder"),
        ({"files": [{"role": "floppy", "name": "a"}]}, "unknown role 'floppy'"),
    ],
)
def test_a_wrong_field_is_named(image: Path, fields: dict[str, Any], said: str) -> None:
    change(image, **fields)
    with pytest.raises(Refused) as refusal:
        read_manifest(image)
    assert said in refusal.value.said


def test_a_file_that_is_missing_shorter_or_damaged_is_named(image: Path) -> None:
    disk = image / "disk.qcow2"
    disk.write_bytes(b"a disc")
    with pytest.raises(Refused, match=r"disk.qcow2 is damaged"):
        verify(image)
    disk.write_bytes(b"a d")
    with pytest.raises(Refused, match="has 3 bytes instead of 6"):
        verify(image)
    disk.unlink()
    with pytest.raises(Refused, match=r"disk.qcow2 is missing"):
        verify(image)
