"""OVA and OVF with real disks: what goes out comes in again, and what means harm does not."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import random
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from a_need import need
from a_package import DEFAULT_HARDWARE, STREAM, descriptor, drive, plain, write_tar
from fix_disks import MIB, How

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.images.formats.describing import Family
from vcl_provision.images.formats.disks import DiskFormat, VmdkVariant, convert, same_content
from vcl_provision.images.formats.exporting import SourceDisk, export_ova, export_ovf
from vcl_provision.images.formats.guest_os import guest_os
from vcl_provision.images.formats.importing import Imported, import_package
from vcl_provision.images.formats.machine import Controller, Firmware, Machine, Nic
from vcl_provision.images.formats.package import Limits, open_package
from vcl_provision.model.faults import Cancelled, ProvisionError, Refused

QCOW2, RAW, VMDK = DiskFormat.QCOW2, DiskFormat.RAW, DiskFormat.VMDK
DISK_LINE = f"""<Disk ovf:capacity="16" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk1"
  ovf:fileRef="file1" ovf:format="{STREAM}"/>"""


@pytest.fixture
def machine() -> Machine:
    return Machine(
        name="Lab 7",
        cpus=2,
        memory_mb=1024,
        disks=[],
        os=guest_os("debian12"),
        firmware=Firmware.EFI,
        controller=Controller.SCSI,
        nics=[Nic(network="VM Network", mac="00:50:56:01:02:03")],
        note="from a test",
        properties={"user-data": "x"},
    )


@pytest.fixture
def sources(raw_disk: Path, other_disk: Path, how: How, tmp_path: Path) -> list[SourceDisk]:
    """Two disks, of two formats."""
    second = tmp_path / "second.qcow2"
    convert(other_disk, RAW, second, QCOW2, **how)
    return [SourceDisk(place=raw_disk, format=RAW), SourceDisk(place=second, format=QCOW2)]


@pytest.fixture
def stream_disk(raw_disk: Path, how: How, tmp_path: Path) -> bytes:
    """The disk as streamOptimized VMDK."""
    disk = tmp_path / "stream.vmdk"
    convert(raw_disk, RAW, disk, VMDK, variant=VmdkVariant.STREAM, **how)
    return disk.read_bytes()


Import = Callable[..., Imported]


@pytest.fixture
def importing(how: How, tmp_path: Path) -> Import:
    """Imports into `in`, as qcow2."""

    def run(path: Path, **options: object) -> Imported:
        return import_package(path, tmp_path / "in", QCOW2, **how, **options)  # pyright: ignore[reportArgumentType]

    return run


def refused(importing: Import, path: Path, said: str, **options: object) -> None:
    """It is refused with a hint, and leaves nothing."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(Refused, match=said) as refusal:
        importing(path, **options)
    assert refusal.value.hint
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("family", Family)
def test_what_is_exported_comes_in_again_the_same(
    how: How,
    machine: Machine,
    sources: list[SourceDisk],
    importing: Import,
    tmp_path: Path,
    family: Family,
) -> None:
    ova = tmp_path / "lab.ova"
    export_ova(machine, sources, ova, family=family, **how)
    came = importing(ova)
    assert came.machine == replace(machine, disks=[16 * MIB, 8 * MIB])
    assert came.verified
    assert [path.name for path in came.disks] == ["disk1.qcow2", "disk2.qcow2"]
    for disk, source in zip(came.disks, sources, strict=True):
        assert same_content(disk, QCOW2, source.place, source.format, **how)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "lab.ova", "second.qcow2"]


def test_an_ova_is_what_other_programs_expect(
    how: How, machine: Machine, sources: list[SourceDisk], tmp_path: Path
) -> None:
    """Order of members by tar, digests by sha256sum, disks by qemu-img."""
    need("tar", "sha256sum", "qemu-img")
    export_ova(machine, sources, tmp_path / "lab.ova", moment=1_700_000_000, **how)
    out = tmp_path / "out"
    out.mkdir()
    names = ["Lab-7.ovf", "Lab-7.mf", "Lab-7-disk1.vmdk", "Lab-7-disk2.vmdk"]
    ran = subprocess.run(["tar", "-xvf", tmp_path / "lab.ova"], cwd=out, check=True, capture_output=True, text=True)
    assert ran.stdout.split() == names
    assert (out / names[0]).stat().st_mtime == 1_700_000_000
    said = subprocess.run(
        ["sha256sum", "--strict", "-c", names[1]], cwd=out, check=True, capture_output=True, text=True
    ).stdout
    assert said.split("\n")[:3] == [f"{name}: OK" for name in (names[0], *names[2:])]
    for name, source in zip(names[2:], sources, strict=True):
        compare = ["qemu-img", "compare", "-f", "vmdk", "-F", source.format, out / name, str(source.place)]
        subprocess.run(compare, check=True, capture_output=True)
        assert b'createType="streamOptimized"' in (out / name).read_bytes()[:2048]
    assert (tmp_path / "lab.ova").stat().st_size % 10240 == 0


def test_an_export_takes_no_more_room_than_what_it_writes(
    how: How, machine: Machine, raw_disk: Path, stream_disk: bytes, tmp_path: Path
) -> None:
    ova = tmp_path / "lab.ova"
    export_ova(machine, [SourceDisk(place=raw_disk, format=RAW)], ova, **how)
    assert ova.stat().st_size < len(stream_disk) + 40_000


def test_an_ovf_is_a_folder_of_files_and_comes_in_again(
    how: How,
    machine: Machine,
    sources: list[SourceDisk],
    importing: Import,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ovf"
    folder.mkdir()
    export_ovf(machine, sources, folder / "lab.ovf", **how)
    assert sorted(path.name for path in folder.iterdir()) == ["lab-disk1.vmdk", "lab-disk2.vmdk", "lab.mf", "lab.ovf"]
    came = importing(folder / "lab.ovf")
    assert came.machine == replace(machine, disks=[16 * MIB, 8 * MIB])
    assert came.verified
    assert same_content(came.disks[1], QCOW2, sources[1].place, QCOW2, **how)


def test_an_export_replaces_none_of_several_files_unless_asked(
    how: How, machine: Machine, sources: list[SourceDisk], tmp_path: Path
) -> None:
    folder = tmp_path / "ovf"
    folder.mkdir()
    (folder / "lab-disk2.vmdk").write_text("mine")
    with pytest.raises(Refused, match=r"lab-disk2\.vmdk is there already"):
        export_ovf(machine, sources, folder / "lab.ovf", **how)
    assert [path.name for path in folder.iterdir()] == ["lab-disk2.vmdk"]
    export_ovf(machine, sources, folder / "lab.ovf", overwrite=True, **how)
    assert open_package(folder / "lab.ovf").digests


class Heard:
    """Progress that is remembered."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.told.append((done, total))


def test_progress_is_told_to_its_end(
    how: How,
    machine: Machine,
    sources: list[SourceDisk],
    importing: Import,
    tmp_path: Path,
) -> None:
    out, into = Heard(), Heard()
    export_ova(machine, sources, tmp_path / "lab.ova", progress=out, **how)
    importing(tmp_path / "lab.ova", progress=into)
    for told in (out.told, into.told):
        assert len(told) > 1
        assert all(done < later for (done, _), (later, _) in itertools.pairwise(told))
        assert {total for _, total in told} == {told[-1][0]}


def test_a_package_as_vsphere_writes_it_comes_in(
    importing: Import, how: How, stream_disk: bytes, raw_disk: Path, tmp_path: Path
) -> None:
    """Manifest last, SHA-1, sizes in units."""
    text = descriptor(disks=DISK_LINE)
    lines = [
        f"SHA1({name})= {hashlib.sha1(content).hexdigest()}\n"
        for name, content in (("lab.ovf", text), ("lab-disk1.vmdk", stream_disk))
    ]
    members = [plain("lab.ovf", text), plain("lab-disk1.vmdk", stream_disk), plain("lab.mf", "".join(lines).encode())]
    came = importing(write_tar(tmp_path / "lab.ova", members, form=tarfile.GNU_FORMAT))
    assert (came.verified, came.machine.os.word, came.machine.firmware) == (True, "debian12", Firmware.EFI)
    assert same_content(came.disks[0], QCOW2, raw_disk, RAW, **how)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("bent", ["lab.ovf", "lab-disk1.vmdk"])
def test_a_byte_that_differs_from_the_manifest_is_found(
    importing: Import, stream_disk: bytes, tmp_path: Path, algorithm: str, bent: str
) -> None:
    content = {"lab.ovf": descriptor(disks=DISK_LINE), "lab-disk1.vmdk": stream_disk}
    lines = [f"{algorithm.upper()}({name})= {hashlib.new(algorithm, it).hexdigest()}\n" for name, it in content.items()]
    content[bent] = content[bent][:-1] + b"\n "[content[bent].endswith(b"\n") :][:1]
    members = [plain(name, it) for name, it in content.items()]
    ova = write_tar(tmp_path / "lab.ova", [*members, plain("lab.mf", "".join(lines).encode())])
    refused(importing, ova, f"{bent} is not what its manifest says")


def test_a_manifest_must_have_every_file_and_only_what_is_there(
    importing: Import, stream_disk: bytes, tmp_path: Path
) -> None:
    text = descriptor(disks=DISK_LINE)
    first = f"SHA256(lab.ovf)= {hashlib.sha256(text).hexdigest()}\n"
    for lines, said in ((first, r"does not have lab-disk1\.vmdk"), (f"{first}SHA256(x)= {'0' * 64}\n", "speaks of x")):
        members = [plain("lab.ovf", text), plain("lab.mf", lines.encode()), plain("lab-disk1.vmdk", stream_disk)]
        refused(importing, write_tar(tmp_path / "lab.ova", members), said)


def test_a_disk_in_gzip_comes_in(
    importing: Import, how: How, stream_disk: bytes, raw_disk: Path, tmp_path: Path
) -> None:
    files = '<File ovf:href="lab-disk1.vmdk" ovf:id="file1" ovf:compression="gzip"/>'
    members = [
        plain("lab.ovf", descriptor(files=files, disks=DISK_LINE)),
        plain("lab-disk1.vmdk", gzip.compress(stream_disk)),
    ]
    came = importing(write_tar(tmp_path / "lab.ova", members))
    assert not came.verified
    assert same_content(came.disks[0], QCOW2, raw_disk, RAW, **how)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["disk1.qcow2"]


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (gzip.compress(bytes(300 * MIB), 1), "unpacks to more than"),
        (gzip.compress(random.Random(2).randbytes(9999))[:-100], "ends too early"),
        (gzip.compress(b"")[:5], "ends too early"),
        (b"KDMV" * 1000, "said to be packed with gzip"),
    ],
    ids=["bomb", "cut off", "all but empty", "not gzip"],
)
def test_gzip_that_is_a_bomb_or_none_is_refused(importing: Import, tmp_path: Path, packed: bytes, said: str) -> None:
    files = '<File ovf:href="lab-disk1.vmdk" ovf:id="file1" ovf:compression="gzip"/>'
    text = descriptor(files=files, disks=DISK_LINE)
    members = [plain("lab.ovf", text), plain("lab-disk1.vmdk", packed)]
    refused(importing, write_tar(tmp_path / "lab.ova", members), said)


def one_disk(path: Path, disk: bytes, **changes: str) -> Path:
    """An OVA with this disk, whatever it is."""
    text = descriptor(**{"disks": DISK_LINE, **changes})
    return write_tar(path, [plain("lab.ovf", text), plain("lab-disk1.vmdk", disk)])


def test_a_disk_larger_than_it_is_said_to_be_is_refused(importing: Import, stream_disk: bytes, tmp_path: Path) -> None:
    lying = DISK_LINE.replace('ovf:capacity="16"', 'ovf:capacity="8"')
    refused(importing, one_disk(tmp_path / "lab.ova", stream_disk, disks=lying), "instead of the 8388608 that are said")


def test_a_file_of_another_size_than_is_said_is_refused(importing: Import, stream_disk: bytes, tmp_path: Path) -> None:
    files = f'<File ovf:href="lab-disk1.vmdk" ovf:id="file1" ovf:size="{len(stream_disk) + 1}"/>'
    refused(importing, one_disk(tmp_path / "lab.ova", stream_disk, files=files), "instead of")


def test_more_than_the_limits_allow_is_refused_before_anything_is_read(
    importing: Import, stream_disk: bytes, tmp_path: Path
) -> None:
    ova = one_disk(tmp_path / "lab.ova", stream_disk)
    refused(importing, ova, "has disks of 16777216 bytes", limits=Limits(virtual_bytes=15 * MIB))
    refused(importing, ova, f"has {len(stream_disk)} bytes", limits=Limits(package_bytes=MIB))
    huge = DISK_LINE.replace("byte * 2^20", "byte * 2^60")
    refused(importing, one_disk(ova, stream_disk, disks=huge), "at most")


def test_disks_that_point_elsewhere_are_refused(importing: Import, tmp_path: Path) -> None:
    secret, inside = tmp_path / "secret.raw", tmp_path / "inside"
    inside.mkdir()
    secret.write_bytes(b"secret" * 4096)
    flat = f'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 48 FLAT "{secret}" 0\n'
    refused(importing, one_disk(inside / "flat.ova", flat.encode()), "damaged: it describes other files")
    child = inside / "child.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", tmp_path / "parent.vmdk", "16M"], check=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "vmdk", "-b", tmp_path / "parent.vmdk", "-F", "vmdk", child], check=True
    )
    refused(importing, one_disk(inside / "child.ova", child.read_bytes()), "rests on another image")
    overlay = inside / "overlay.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", overlay], check=True)
    line = DISK_LINE.replace(STREAM, "http://www.gnome.org/~markmc/qcow-image-format.html")
    refused(importing, one_disk(inside / "qcow.ova", overlay.read_bytes(), disks=line), "rests on another image")


def test_a_vmdk_that_is_none_is_refused(importing: Import, tmp_path: Path) -> None:
    refused(importing, one_disk(tmp_path / "lab.ova", b"no disk" * 1000), "is no vmdk image")
    refused(importing, one_disk(tmp_path / "lab.ova", b""), "is no vmdk image")


def test_a_descriptor_without_its_disks_or_with_two_is_refused(
    importing: Import, stream_disk: bytes, tmp_path: Path
) -> None:
    text, ova = descriptor(disks=DISK_LINE), tmp_path / "lab.ova"
    refused(importing, write_tar(ova, [plain("lab.ovf", text)]), r"speaks of lab-disk1\.vmdk, which is not there")
    refused(importing, write_tar(ova, [plain("lab-disk1.vmdk", stream_disk)]), "holds 0 files that end in .ovf")
    members = [plain("a.ovf", text), plain("b.ovf", text), plain("lab-disk1.vmdk", stream_disk)]
    refused(importing, write_tar(ova, members), "holds 2 files that end in .ovf")


def test_a_folder_is_not_followed_out_of_itself(importing: Import, stream_disk: bytes, tmp_path: Path) -> None:
    folder, outside = tmp_path / "ovf", tmp_path / "outside.vmdk"
    folder.mkdir()
    outside.write_bytes(stream_disk)
    ovf = folder / "lab.ovf"
    ovf.write_bytes(descriptor(disks=DISK_LINE))
    refused(importing, ovf, "not there as a plain file")
    (folder / "lab-disk1.vmdk").symlink_to(outside)
    refused(importing, ovf, "not there as a plain file")
    (folder / "lab-disk1.vmdk").unlink()
    os.mkfifo(folder / "lab-disk1.vmdk")
    refused(importing, ovf, "not there as a plain file")


def test_a_second_disk_that_is_bad_leaves_nothing_of_the_first(
    importing: Import, stream_disk: bytes, tmp_path: Path
) -> None:
    files = '<File ovf:href="a.vmdk" ovf:id="file1"/><File ovf:href="b.vmdk" ovf:id="file2"/>'
    disks = DISK_LINE + DISK_LINE.replace("vmdisk1", "vmdisk2").replace("file1", "file2")
    hardware = DEFAULT_HARDWARE + drive("/disk/vmdisk1") + drive("/disk/vmdisk2", place=1, number=11)
    text = descriptor(files=files, disks=disks, hardware=hardware)
    members = [plain("lab.ovf", text), plain("a.vmdk", stream_disk), plain("b.vmdk", stream_disk[: 1 << 19])]
    refused(importing, write_tar(tmp_path / "lab.ova", members), "is damaged")


def test_a_folder_that_is_there_is_kept(importing: Import, stream_disk: bytes, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine").write_text("mine")
    refused(importing, one_disk(tmp_path / "lab.ova", stream_disk), "is there already")
    assert (tmp_path / "in" / "mine").read_text() == "mine"


class Cancelling:
    """Progress that ends the work at the first news of it."""

    def __init__(self) -> None:
        self.patience = Patience(60)

    def __call__(self, done: int, total: int) -> None:
        self.patience.cancel()


def test_work_that_nobody_wants_any_more_ends_and_leaves_nothing(
    here: LocalChannel, how: How, machine: Machine, sources: list[SourceDisk], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_ova(machine, sources, out / "lab.ova", **how)
    stop = Cancelling()
    with pytest.raises(Cancelled):
        export_ova(machine, sources, out / "x.ova", progress=stop, channel=here, patience=stop.patience)
    stop = Cancelling()
    with pytest.raises(Cancelled):
        import_package(out / "lab.ova", out / "in", QCOW2, progress=stop, channel=here, patience=stop.patience)
    assert [path.name for path in out.iterdir()] == ["lab.ova"]


def test_an_export_that_does_not_fit_says_so_and_leaves_nothing(
    how: How, machine: Machine, sources: list[SourceDisk], narrow: Path
) -> None:
    with pytest.raises(ProvisionError, match="full"):
        export_ova(machine, sources, narrow / "lab.ova", **how)
    assert list(narrow.iterdir()) == []


def test_unpacking_that_does_not_fit_says_so_and_leaves_nothing(
    how: How, stream_disk: bytes, narrow: Path, tmp_path: Path
) -> None:
    files = '<File ovf:href="lab-disk1.vmdk" ovf:id="file1" ovf:compression="gzip"/>'
    text = descriptor(files=files, disks=DISK_LINE)
    members = [plain("lab.ovf", text), plain("lab-disk1.vmdk", gzip.compress(stream_disk))]
    ova = write_tar(tmp_path / "lab.ova", members)
    with pytest.raises(Refused, match="its file system is full"):
        import_package(ova, narrow / "in", QCOW2, **how)
    assert list(narrow.iterdir()) == []


def test_an_export_of_nothing_or_of_what_does_not_stand_alone_is_refused(
    how: How, machine: Machine, raw_disk: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", raw_disk, "-F", "raw", overlay], check=True)
    for disks, said in (([], "no disk to export"), ([SourceDisk(place=overlay, format=QCOW2)], "rests on another")):
        with pytest.raises(Refused, match=said):
            export_ova(machine, disks, tmp_path / "lab.ova", **how)
    with pytest.raises(Refused, match=r"does not end in \.ovf"):
        export_ovf(machine, [SourceDisk(place=raw_disk, format=RAW)], tmp_path / "x", **how)
