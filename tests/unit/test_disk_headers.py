"""What a disk's first bytes say: read by us before QEMU may open what they point to."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from vcl_provision.images.formats import qcow2, vdi, vhdx, vmdk
from vcl_provision.images.formats.header import Header, checked_file
from vcl_provision.images.formats.words import Place, Slice
from vcl_provision.model.faults import Refused

GIB = 1 << 30
READERS: dict[str, Callable[[Place], Header]] = {
    "qcow2": qcow2.read_header,
    "vdi": vdi.read_header,
    "vhdx": vhdx.read_header,
    "vmdk": vmdk.read_header,
}
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="{kind}"

# Extent description
{extents}

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
"""


def qcow2_image(
    *,
    backing: bytes = b"",
    data_file: bytes = b"",
    features: int = 0,
    crypt: int = 0,
    snapshots: int = 0,
    version: int = 3,
) -> bytes:
    length = 104 if version == 3 else 72
    extension = struct.pack(">II", 0x44415441, len(data_file)) + data_file.ljust(-(-len(data_file) // 8) * 8, b"\0")
    extensions = (extension if data_file else b"") + bytes(8)
    at = length + len(extensions) if backing else 0
    start = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", version, at, len(backing), 16, GIB, crypt, 0, 0, 0, 0, snapshots, 0
    )
    later = struct.pack(">QQQII", features, 0, 0, 4, length) if version == 3 else b""
    return start + later + extensions + backing


def vdi_image(*, kind: int = 1, parent: bytes = bytes(16), allocated: int = 0) -> bytes:
    fields = (0xBEDA107F, 0x10001, 0x190, kind, 0, 512, 1024, 512, GIB, MIB, 0, 1024, allocated)
    return struct.pack("<64xIIIII256xII12xI4xQIIII64s", *fields, bytes(48) + parent).ljust(1024, b"\0")


MIB = 1 << 20


def vhdx_image(*, flags: int = 0, locator: bytes = b"", size: int = GIB) -> bytes:
    items = [
        (UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b"), struct.pack("<II", MIB, flags)),
        (UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8"), struct.pack("<Q", size)),
    ]
    if locator:
        items.append((UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c"), locator))
    table, contents = struct.pack("<8sHH20x", b"metadata", 0, len(items)), b""
    for name, content in items:
        table += struct.pack("<16sIIII", name.bytes_le, (64 << 10) + len(contents), len(content), 0, 0)
        contents += content
    region = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
    regions = struct.pack("<4sIII", b"regi", 0, 1, 0) + struct.pack("<16sQII", region, MIB, MIB, 1)
    start = b"vhdxfile".ljust(192 << 10, b"\0") + regions
    return start.ljust(MIB, b"\0") + table.ljust(64 << 10, b"\0") + contents


def sparse_vmdk(descriptor: str, *, capacity: int = GIB // 512, at: int = 1) -> bytes:
    start = struct.pack("<4sIIQQQQ", b"KDMV", 3, 3, capacity, 128, at, 20)
    return start.ljust(512, b"\0") + descriptor.encode().ljust(10240, b"\0")


def sparse_descriptor(extents: str = 'RW 2097152 SPARSE "disk.vmdk"', kind: str = "streamOptimized") -> str:
    return DESCRIPTOR.format(kind=kind, extents=extents)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk.vmdk"


def test_honest_headers_are_read(disk: Path) -> None:
    for name, content in {
        "qcow2": qcow2_image(),
        "vdi": vdi_image(),
        "vhdx": vhdx_image(),
        "vmdk": sparse_vmdk(sparse_descriptor()),
    }.items():
        disk.write_bytes(content)
        header = READERS[name](disk)
        assert (header.virtual_bytes, header.backing_file, header.data_file, header.damaged) == (GIB, "", "", "")


@pytest.mark.parametrize("version", [2, 3])
def test_a_qcow2_names_its_backing_file(disk: Path, version: int) -> None:
    disk.write_bytes(qcow2_image(backing=b"/etc/shadow", version=version))
    assert qcow2.read_header(disk).backing_file == "/etc/shadow"


def test_a_qcow2_names_its_data_file_encryption_snapshots_and_damage(disk: Path) -> None:
    disk.write_bytes(qcow2_image(data_file=b"/etc/shadow", features=4, crypt=2, snapshots=3))
    header = qcow2.read_header(disk)
    assert (header.data_file, header.encrypted, header.snapshots) == ("/etc/shadow", True, 3)
    disk.write_bytes(qcow2_image(features=4))
    assert qcow2.read_header(disk).data_file == "(not named)"
    disk.write_bytes(qcow2_image(features=2))
    assert "corrupt" in qcow2.read_header(disk).damaged


def test_a_vdi_names_its_parent_and_what_is_cut_off(disk: Path) -> None:
    disk.write_bytes(vdi_image(kind=4, parent=b"\1" * 16))
    assert "0101" in vdi.read_header(disk).backing_file
    disk.write_bytes(vdi_image(allocated=2))
    assert vdi.read_header(disk).damaged == f"it ends at byte 1024 instead of {1024 + 2 * MIB}"


def test_a_vhdx_names_its_parent(disk: Path) -> None:
    disk.write_bytes(vhdx_image(flags=2, locator=bytes(20) + "C:\\parent.vhdx".encode("utf-16-le")))
    assert vhdx.read_header(disk).backing_file == "C:\\parent.vhdx"
    disk.write_bytes(vhdx_image(flags=2))
    assert vhdx.read_header(disk).backing_file
    disk.write_bytes(vhdx_image()[: MIB // 2])
    assert vhdx.read_header(disk).damaged


@pytest.mark.parametrize(
    "line",
    [
        'parentFileNameHint="/etc/shadow"',
        '# a comment with parentFileNameHint="/etc/shadow" in it',  # QEMU searches comments too
        'ddb.x = "parentFileNameHint"',
    ],
)
def test_a_vmdk_names_its_parent_wherever_it_hides(disk: Path, line: str) -> None:
    disk.write_bytes(sparse_vmdk(sparse_descriptor() + line + "\n"))
    assert vmdk.read_header(disk).backing_file


def test_a_vmdk_with_the_cid_of_a_parent_has_one(disk: Path) -> None:
    disk.write_bytes(sparse_vmdk(sparse_descriptor().replace("parentCID=ffffffff", "parentCID=12345678")))
    assert vmdk.read_header(disk).backing_file == "the disk with CID 12345678"


@pytest.mark.parametrize(
    ("extents", "said"),
    [
        ('RW 8 FLAT "/etc/shadow" 0', "speaks of others"),
        ('RW 8 SPARSE "a"\nRW 8 FLAT "/etc/shadow" 0', "speaks of others"),
        ('  RW 8 FLAT "/etc/shadow" 0', "not understood"),
        ('RW\t8 FLAT "/etc/shadow" 0', "not understood"),
        ('rw 8 FLAT "/etc/shadow" 0', "not understood"),
        ('RW 8 FLAT "nbd://host/x" 0', "speaks of others"),
    ],
)
def test_a_sparse_vmdk_names_nothing_but_itself(disk: Path, extents: str, said: str) -> None:
    disk.write_bytes(sparse_vmdk(sparse_descriptor(extents)))
    with pytest.raises(Refused, match=said):
        vmdk.read_header(disk)


def test_a_sparse_vmdk_that_leaves_its_size_to_its_descriptor_is_refused(disk: Path) -> None:
    for content in (sparse_vmdk(sparse_descriptor(), capacity=0), sparse_vmdk(sparse_descriptor(), at=40)):
        disk.write_bytes(content)
        with pytest.raises(Refused, match="hides where its content lies"):
            vmdk.read_header(disk)


@pytest.mark.parametrize(
    "extents",
    [
        'RW 8 FLAT "/etc/shadow" 0',
        'RW 8 FLAT "../disk-flat.vmdk" 0',
        'RW 8 FLAT "other.vmdk" 0',
        'RW 8 VMFS "disk-flat.vmdk"\nRW 8 VMFS "disk-flat.vmdk"',
        'RW 8 SPARSE "disk-flat.vmdk"',
        'RW 8 FLAT "http://host/disk-flat.vmdk" 0',
        "RW 8 ZERO",
        'RW 80000 VMFS "disk-flat.vmdk"',
        "",
    ],
)
def test_a_descriptor_alone_must_be_one_with_its_flat_file(disk: Path, extents: str) -> None:
    disk.with_name("disk-flat.vmdk").write_bytes(bytes(4096))
    disk.write_text(DESCRIPTOR.format(kind="vmfs", extents=extents))
    assert vmdk.read_header(disk).damaged


def test_a_descriptor_inside_an_archive_has_no_files_beside_it(disk: Path) -> None:
    for name in ("/etc/shadow", "disk-flat.vmdk"):
        disk.write_text(DESCRIPTOR.format(kind="monolithicFlat", extents=f'RW 1 FLAT "{name}" 0'))
        header = vmdk.read_header(Slice(path=disk, offset=0, bytes=disk.stat().st_size))
        assert "where there can be none" in header.damaged


def test_a_pair_as_esx_has_it_is_whole_unless_its_flat_file_is_a_link(disk: Path) -> None:
    flat = disk.with_name("disk-flat.vmdk")
    flat.write_bytes(bytes(4096))
    disk.write_text(vmdk.flat_descriptor(disk.name, 4096, "lsilogic"))
    header = vmdk.read_header(disk)
    assert (header.virtual_bytes, header.variant, header.extents, header.damaged) == (4096, "vmfs", [flat.name], "")
    flat.rename(disk.with_name("secret"))
    flat.symlink_to("secret")
    assert "not there" in vmdk.read_header(disk).damaged


@pytest.mark.parametrize("content", [b"COWD".ljust(512, b"\0"), b"", b"KDMV", b"\0" * 4096])
def test_what_is_no_vmdk_is_refused(disk: Path, content: bytes) -> None:
    disk.write_bytes(content)
    with pytest.raises(Refused) as refusal:
        vmdk.read_header(disk)
    assert refusal.value.hint


def test_a_slice_is_read_where_it_lies_and_not_beyond(disk: Path) -> None:
    image = qcow2_image(backing=b"x" * 900)
    disk.write_bytes(b"before" * 100 + image + b"after")
    inside = Slice(path=disk, offset=600, bytes=len(image))
    assert qcow2.read_header(inside).backing_file == "x" * 900
    assert qcow2.read_header(Slice(path=disk, offset=600, bytes=len(image) - 500)).backing_file == "x" * 400


def test_neither_folders_nor_what_is_not_there_are_disks(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "neither a file nor a block device"), (tmp_path / "x", "cannot be read")):
        with pytest.raises(Refused, match=said):
            checked_file(path)


@pytest.mark.parametrize("name", READERS)
def test_no_bytes_do_more_than_be_refused(disk: Path, name: str) -> None:
    chance = random.Random(1)
    whole = {
        "qcow2": qcow2_image(backing=b"a", data_file=b"b"),
        "vdi": vdi_image(),
        "vhdx": vhdx_image(flags=2, locator=bytes(40)),
        "vmdk": sparse_vmdk(sparse_descriptor()),
    }[name]
    interesting = [*range(min(len(whole), 600)), *range(192 << 10, (192 << 10) + 64), *range(MIB, MIB + 160)]
    for _ in range(300):
        bent = bytearray(whole)
        for at in chance.sample([place for place in interesting if place < len(bent)], 4):
            bent[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        disk.write_bytes(bent[: chance.choice((len(bent), chance.randrange(len(bent))))])
        try:
            READERS[name](disk)
        except Refused as refusal:
            assert refusal.hint  # noqa: PT017 - either outcome is right
