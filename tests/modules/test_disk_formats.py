"""Disks with the real qemu-img: every format and back, and every image that means harm refused before QEMU opens it."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from pathlib import Path

import pytest
from fix_disks import MIB, How

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.images.formats import qemu_img as cage
from vcl_provision.images.formats.disks import (
    DiskFormat,
    VmdkVariant,
    convert,
    create,
    inspect,
    require_standalone,
    resize,
    same_content,
)
from vcl_provision.model.faults import Cancelled, ProvisionError, Refused, Transient

SPARSE = VmdkVariant.SPARSE
TARGETS = [
    (DiskFormat.RAW, SPARSE, ""),
    (DiskFormat.QCOW2, SPARSE, ""),
    (DiskFormat.QCOW2, SPARSE, "zlib"),
    (DiskFormat.QCOW2, SPARSE, "zstd"),
    (DiskFormat.VDI, SPARSE, ""),
    (DiskFormat.VHDX, SPARSE, ""),
    *((DiskFormat.VMDK, variant, "") for variant in VmdkVariant),
]


def qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


@pytest.mark.parametrize(("disk_format", "variant", "compression"), TARGETS)
def test_a_disk_keeps_its_content_in_every_format_and_back(
    how: How,
    raw_disk: Path,
    tmp_path: Path,
    disk_format: DiskFormat,
    variant: VmdkVariant,
    compression: str,
) -> None:
    there, back = tmp_path / "there.vmdk", tmp_path / "back.raw"
    convert(
        raw_disk,
        DiskFormat.RAW,
        there,
        disk_format,
        variant=variant,
        compression=compression,
        **how,
    )
    qemu_img("compare", "-f", "raw", "-F", disk_format, raw_disk, there)
    facts = inspect(there, disk_format, **how)
    assert (facts.virtual_bytes, facts.damaged) == (16 * MIB, "")
    assert 0 < facts.allocated_bytes < 4 * MIB
    if disk_format is DiskFormat.VMDK:
        assert facts.variant == variant
    convert(there, disk_format, back, DiskFormat.RAW, **how)
    assert back.read_bytes() == raw_disk.read_bytes()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("compression", ["", "zlib", "zstd"])
def test_one_disk_makes_one_qcow2_to_the_byte(how: How, raw_disk: Path, tmp_path: Path, compression: str) -> None:
    made = [tmp_path / name for name in ("one", "two")]
    for target in made:
        convert(raw_disk, DiskFormat.RAW, target, DiskFormat.QCOW2, compression=compression, **how)
    assert made[0].read_bytes() == made[1].read_bytes()


def test_an_esx_pair_is_two_files_and_needs_both(how: How, raw_disk: Path, tmp_path: Path) -> None:
    disk, flat = tmp_path / "lab.vmdk", tmp_path / "lab-flat.vmdk"
    convert(raw_disk, DiskFormat.RAW, disk, DiskFormat.VMDK, variant=VmdkVariant.ESX, **how)
    assert sorted(path.name for path in tmp_path.iterdir()) == [flat.name, disk.name]
    assert flat.read_bytes() == raw_disk.read_bytes()
    facts = inspect(disk, DiskFormat.VMDK, **how)
    require_standalone(facts, pair=True)
    with pytest.raises(Refused, match=r"only a descriptor of lab-flat\.vmdk"):
        require_standalone(facts)
    flat.unlink()
    with pytest.raises(Refused, match="not there beside it"):
        convert(disk, DiskFormat.VMDK, tmp_path / "x", DiskFormat.RAW, **how)


def test_content_is_compared_whatever_holds_it(how: How, raw_disk: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    convert(raw_disk, DiskFormat.RAW, disk, DiskFormat.QCOW2, **how)
    assert same_content(raw_disk, DiskFormat.RAW, disk, DiskFormat.QCOW2, **how)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 1 8M 512", str(disk)], check=True, capture_output=True)
    assert not same_content(raw_disk, DiskFormat.RAW, disk, DiskFormat.QCOW2, **how)


@pytest.mark.parametrize("disk_format", [DiskFormat.RAW, DiskFormat.QCOW2])
def test_a_disk_is_made_and_grows_but_never_shrinks(how: How, tmp_path: Path, disk_format: DiskFormat) -> None:
    disk = tmp_path / "disk"
    create(disk, disk_format, 16 * MIB, **how)
    resize(disk, disk_format, 32 * MIB, **how)
    assert inspect(disk, disk_format, **how).virtual_bytes == 32 * MIB
    with pytest.raises(Refused, match="would cut off its end"):
        resize(disk, disk_format, 8 * MIB, **how)
    with pytest.raises(Refused, match="is there already"):
        create(disk, disk_format, 16 * MIB, **how)


@pytest.mark.parametrize("size", [0, -512, 1000])
def test_a_size_that_is_none_is_refused(how: How, tmp_path: Path, size: int) -> None:
    with pytest.raises(Refused, match="cannot have"):
        create(tmp_path / "disk", DiskFormat.RAW, size, **how)


@pytest.mark.parametrize("disk_format", [DiskFormat.VMDK, DiskFormat.VDI, DiskFormat.VHDX])
def test_what_qemu_cannot_grow_says_so(how: How, tmp_path: Path, disk_format: DiskFormat) -> None:
    create(tmp_path / "disk", disk_format, 16 * MIB, **how)
    with pytest.raises(Refused, match="cannot grow"):
        resize(tmp_path / "disk", disk_format, 32 * MIB, **how)


def test_a_raw_disk_that_begins_like_another_format_stays_raw(how: How, tmp_path: Path) -> None:
    """What a guest writes to its own disk must not make us read another file: the oldest trick there is."""
    disk, secret, out = tmp_path / "disk.raw", tmp_path / "secret", tmp_path / "out.raw"
    secret.write_bytes(b"secret".ljust(MIB, b"!"))
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", disk)
    convert(disk, DiskFormat.RAW, out, DiskFormat.RAW, **how)
    assert out.read_bytes().startswith(disk.read_bytes())


def hostile(folder: Path) -> dict[str, tuple[Path, DiskFormat, str]]:
    """Images by qemu-img itself that want another file, or hide something."""
    secret = folder / "secret.raw"
    secret.write_bytes(b"secret".ljust(MIB, b"!"))
    made = {name: folder / name for name in ("backed", "split", "snapped", "locked", "flat.vmdk", "child.vmdk")}
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", made["backed"])
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={folder / 'data'}", made["split"], "1M")
    qemu_img("create", "-f", "qcow2", made["snapped"], "1M")
    qemu_img("snapshot", "-c", "earlier", made["snapped"])
    qemu_img("create", "-f", "qcow2", made["locked"], "1M")
    with made["locked"].open("r+b") as image:
        image.seek(32)  # the header's crypt_method: LUKS
        image.write((2).to_bytes(4, "big"))
    qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", made["flat.vmdk"], "1M")
    text = made["flat.vmdk"].read_text().replace("flat-flat.vmdk", str(secret))
    made["flat.vmdk"].write_text(text)
    qemu_img("create", "-f", "vmdk", folder / "parent.vmdk", "1M")
    qemu_img("create", "-f", "vmdk", "-b", folder / "parent.vmdk", "-F", "vmdk", made["child.vmdk"])
    return {
        "backed": (made["backed"], DiskFormat.QCOW2, "rests on another image: .*secret.raw"),
        "split": (made["split"], DiskFormat.QCOW2, "keeps its content in another file: .*data"),
        "locked": (made["locked"], DiskFormat.QCOW2, "is encrypted"),
        "flat": (made["flat.vmdk"], DiskFormat.VMDK, "made of other files"),
        "child": (made["child.vmdk"], DiskFormat.VMDK, "rests on another image: .*parent.vmdk"),
    }


def test_images_that_want_another_file_are_refused_and_leave_nothing(how: How, tmp_path: Path, raw_disk: Path) -> None:
    out = tmp_path / "out.raw"
    for path, disk_format, said in hostile(tmp_path).values():
        with pytest.raises(Refused, match=said) as refusal:
            convert(path, disk_format, out, DiskFormat.RAW, **how)
        assert refusal.value.hint
        with pytest.raises(Refused, match=said):
            same_content(path, disk_format, raw_disk, DiskFormat.RAW, **how)
        with pytest.raises(Refused, match=said):
            require_standalone(inspect(path, disk_format, **how))
        assert not out.exists()
    snapped = inspect(tmp_path / "snapped", DiskFormat.QCOW2, **how)
    with pytest.raises(Refused, match="holds 1 snapshots"):
        require_standalone(snapped)
    convert(tmp_path / "snapped", DiskFormat.QCOW2, out, DiskFormat.RAW, **how)


def test_even_if_it_were_opened_a_backing_file_would_not_be(
    here: LocalChannel, how: How, patience: Patience, tmp_path: Path
) -> None:
    """The second wall: QEMU is told that there is nothing beneath."""
    path, disk_format, _ = hostile(tmp_path)["backed"]
    out = tmp_path / "out.raw"
    arguments = ["convert", "-O", "raw", cage.node(path, disk_format), str(out)]
    cage.run(here, arguments, about=path, patience=patience, writes=2 * MIB)
    assert b"secret" not in out.read_bytes()


def test_the_cage_stops_what_grows_past_its_limit(
    here: LocalChannel, how: How, patience: Patience, raw_disk: Path, tmp_path: Path
) -> None:
    arguments = ["convert", "-S", "0", "-O", "raw", cage.node(raw_disk, DiskFormat.RAW), str(tmp_path / "out")]
    with pytest.raises(Refused, match="would grow past its limit"):
        cage.run(here, arguments, about=raw_disk, patience=patience, writes=2 * MIB)
    assert (tmp_path / "out").stat().st_size <= 2 * MIB


def test_a_size_over_the_limit_is_refused_from_the_header(how: How, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", disk, "10G")
    with pytest.raises(Refused, match=f"at most {1 << 30} are taken"):
        inspect(disk, DiskFormat.QCOW2, **how, most_bytes=1 << 30)


@pytest.mark.parametrize(
    ("disk_format", "variant", "compression"), [target for target in TARGETS if target[0] is not DiskFormat.RAW]
)
def test_what_is_cut_off_is_refused(
    how: How,
    raw_disk: Path,
    tmp_path: Path,
    disk_format: DiskFormat,
    variant: VmdkVariant,
    compression: str,
) -> None:
    """qemu-img convert alone reads the missing end of a qcow2 or a VDI as zeros, and says nothing."""
    disk = tmp_path / "disk.vmdk"
    convert(
        raw_disk,
        DiskFormat.RAW,
        disk,
        disk_format,
        variant=variant,
        compression=compression,
        **how,
    )
    cut = tmp_path / "disk-flat.vmdk" if variant is VmdkVariant.ESX else disk
    os.truncate(cut, cut.stat().st_size * 2 // 3 // 512 * 512)
    with pytest.raises(Refused) as refusal:
        convert(disk, disk_format, tmp_path / "x", DiskFormat.RAW, **how)
    assert refusal.value.hint
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("disk_format", [form for form in DiskFormat if form is not DiskFormat.RAW])
def test_what_is_of_another_format_is_refused(how: How, raw_disk: Path, disk_format: DiskFormat) -> None:
    with pytest.raises(Refused, match=f"is no {disk_format} image"):
        inspect(raw_disk, disk_format, **how)


def test_a_fifo_and_a_device_of_characters_are_not_opened(how: How, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(Refused, match="neither a file nor a block device"):
            inspect(path, DiskFormat.RAW, **how)


@pytest.mark.parametrize(("disk_format", "variant", "compression"), TARGETS)
def test_a_full_disk_is_named_and_nothing_is_left(
    how: How,
    raw_disk: Path,
    narrow: Path,
    disk_format: DiskFormat,
    variant: VmdkVariant,
    compression: str,
) -> None:
    with pytest.raises(ProvisionError, match="its file system is full") as refusal:
        convert(
            raw_disk,
            DiskFormat.RAW,
            narrow / "disk.vmdk",
            disk_format,
            variant=variant,
            compression=compression,
            **how,
        )
    assert refusal.value.hint
    assert list(narrow.iterdir()) == []


def test_a_target_is_replaced_only_if_asked_and_only_by_a_whole_one(how: How, raw_disk: Path, tmp_path: Path) -> None:
    target, broken = tmp_path / "disk.qcow2", tmp_path / "broken.vmdk"
    target.write_text("old")
    with pytest.raises(Refused, match="is there already"):
        convert(raw_disk, DiskFormat.RAW, target, DiskFormat.QCOW2, **how)
    broken.write_bytes(b"KDMV" + bytes(2000))
    with pytest.raises(Refused):
        convert(broken, DiskFormat.VMDK, target, DiskFormat.QCOW2, **how, overwrite=True)
    assert target.read_text() == "old"
    convert(raw_disk, DiskFormat.RAW, target, DiskFormat.QCOW2, **how, overwrite=True)
    assert same_content(raw_disk, DiskFormat.RAW, target, DiskFormat.QCOW2, **how)


def test_a_cancel_in_the_middle_leaves_nothing(here: LocalChannel, tmp_path: Path) -> None:
    source, out, patience = tmp_path / "big.raw", tmp_path / "out", Patience(60)
    source.write_bytes(random.Random(1).randbytes(64 * MIB))
    out.mkdir()

    def cancel() -> None:
        Patience(30).until(
            lambda: any(path.stat().st_size > MIB for path in out.rglob("disk.vmdk")), "some of it", every=0.01
        )
        patience.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(Cancelled):
        convert(
            source,
            DiskFormat.RAW,
            out / "disk.vmdk",
            DiskFormat.VMDK,
            variant=VmdkVariant.STREAM,
            channel=here,
            patience=patience,
        )
    thread.join()
    assert list(out.iterdir()) == []


def test_progress_is_told_while_a_disk_is_converted(how: How, tmp_path: Path) -> None:
    source, told = tmp_path / "big.raw", list[tuple[int, int]]()
    source.write_bytes(random.Random(1).randbytes(32 * MIB))

    def hear(done: int, total: int) -> None:
        told.append((done, total))

    convert(
        source,
        DiskFormat.RAW,
        tmp_path / "disk.vmdk",
        DiskFormat.VMDK,
        variant=VmdkVariant.STREAM,
        progress=hear,
        **how,
    )
    assert told == sorted(told)
    assert all(0 < done < total == 32 * MIB for done, total in told)
    assert told  # a second and more of compression, asked every tenth of one


def test_a_disk_that_a_machine_writes_to_is_left_alone(how: How, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    create(disk, DiskFormat.QCOW2, 16 * MIB, **how)
    machine = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(disk)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert machine.stdin
    assert machine.stdout
    try:
        machine.stdin.write("length\n")
        machine.stdin.flush()
        while "16" not in machine.stdout.readline():
            pass
        with pytest.raises(Transient, match="in use by another process"):
            convert(disk, DiskFormat.QCOW2, tmp_path / "x", DiskFormat.RAW, **how)
    finally:
        machine.communicate("quit\n")


def test_a_block_device_takes_a_raw_disk_and_gives_it_back(
    how: How, raw_disk: Path, block_device: Path, tmp_path: Path
) -> None:
    convert(raw_disk, DiskFormat.RAW, block_device, DiskFormat.RAW, **how)
    assert same_content(raw_disk, DiskFormat.RAW, block_device, DiskFormat.RAW, **how)
    with pytest.raises(Refused, match="takes a raw disk"):
        convert(raw_disk, DiskFormat.RAW, block_device, DiskFormat.QCOW2, **how)
    large = tmp_path / "large"
    large.write_bytes(bytes(21 * MIB))
    with pytest.raises(Refused, match="block device of"):
        convert(large, DiskFormat.RAW, block_device, DiskFormat.RAW, **how)


def test_a_compression_that_a_format_has_not_is_refused(how: How, raw_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="vdi cannot be compressed with zstd"):
        convert(
            raw_disk,
            DiskFormat.RAW,
            tmp_path / "x",
            DiskFormat.VDI,
            compression="zstd",
            **how,
        )


def test_names_that_qemu_would_read_as_options_or_protocols_are_names(how: How, raw_disk: Path, tmp_path: Path) -> None:
    for name in ("nbd:host:10809,x=y", "json:{}", "-f", "a b,c=d", "ü"):
        disk = tmp_path / name
        convert(raw_disk, DiskFormat.RAW, disk, DiskFormat.QCOW2, **how)
        assert inspect(disk, DiskFormat.QCOW2, **how).virtual_bytes == 16 * MIB
