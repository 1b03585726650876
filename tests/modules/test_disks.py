"""Disks written for real: every file system, files and devices, and nothing left behind whatever ends it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from a_need import need, need_root
from a_tree import MOMENT, SPARSE, facts, fill_tree

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder.disks import loop, lvm
from vcl_provision.images.builder.disks.layout import (
    MIB,
    Disk,
    FileSystem,
    Layout,
    Partition,
    Table,
    from_sizes,
    whole_disk,
)
from vcl_provision.images.builder.disks.loaders import Loader, bootable
from vcl_provision.images.builder.disks.loop import loop_device
from vcl_provision.images.builder.disks.placing import Placed, place
from vcl_provision.images.builder.disks.prepare import prepare_root
from vcl_provision.images.builder.disks.writing import write_disks
from vcl_provision.model.faults import CommandFailed, Refused

SEED = "the tests'"
NOBODY = 65534
ROOT = Partition(mount="/", size=48 * MIB)
CHECKS = {
    FileSystem.EXT4: ("e2fsck", "-fn"),
    FileSystem.XFS: ("xfs_repair", "-n"),
    FileSystem.BTRFS: ("btrfs", "check", "--readonly"),
}
Write = Callable[..., list[Path]]


@pytest.fixture(autouse=True)
def _programs() -> None:
    need_root()
    need("sfdisk", "mke2fs", "mkfs.xfs", "mkfs.btrfs", "mformat", "grub-mkimage", "losetup")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return fill_tree(tmp_path / "tree")


@pytest.fixture
def write(tmp_path: Path, tree: Path) -> Write:
    """Prepares the tree for a layout and writes it to files."""

    def run(layout: Layout, *, loader: Loader = Loader.DIRECT, root: Path = tree, name: str = "disk") -> list[Path]:
        targets = [tmp_path / f"{name}{number}.raw" for number, _ in enumerate(layout.disks)]
        prepare_root(layout, root, seed=SEED, moment=MOMENT, loader=loader, command_line="quiet")
        write_to(targets, layout, root, loader)
        return targets

    return run


def write_to(
    targets: list[Path], layout: Layout, tree: Path, loader: Loader = Loader.DIRECT, *, overwrite: bool = False
) -> None:
    write_disks(
        layout,
        tree,
        targets,
        seed=SEED,
        moment=MOMENT,
        loader=loader,
        overwrite=overwrite,
        channel=LocalChannel(),
        patience=Patience(60),
    )


@contextmanager
def mounted(disk: Path, placed: Placed) -> Generator[Path]:
    """A file system of a disk, to look at."""
    folder = disk.with_name("mounted")
    folder.mkdir(exist_ok=True)
    with loop_device(disk, start=placed.start, size=placed.size, patience=Patience(5)) as device:
        subprocess.run(["mount", "-o", "ro,norecovery" if is_xfs(placed) else "ro", device, folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)


def is_xfs(placed: Placed) -> bool:
    return placed.partition.filesystem is FileSystem.XFS


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def traces(of: Path) -> Iterator[str]:
    """What this machine has of a folder: mounts of any process's, loop devices, processes."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (
                (process / "mountinfo").read_text()
                + (process / "cmdline").read_text()
                + str((process / "cwd").readlink())
            )
            if str(of) in said:
                yield f"process {process.name}"
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if str(of) in backing.read_text():
                yield str(backing)
        except OSError:
            continue


@pytest.mark.parametrize("filesystem", [FileSystem.EXT4, FileSystem.XFS, FileSystem.BTRFS])
def test_nothing_of_a_tree_is_lost_on_its_way_to_a_disk(
    filesystem: FileSystem, tmp_path: Path, tree: Path, write: Write
) -> None:
    size = 48 * MIB if filesystem is FileSystem.EXT4 else 320 * MIB
    layout = from_sizes(root=size, filesystem=filesystem)
    (disk,) = write(layout)
    (placed,) = place(layout, seed=SEED)[0].partitions
    with mounted(disk, placed) as there:
        assert facts(there) == facts(tree)
        assert (there / "var/sparse").stat().st_size > SPARSE
        assert (there / "var/sparse").stat().st_blocks * 512 < MIB
        assert os.statvfs(there).f_files != 0 or filesystem is FileSystem.BTRFS
    with loop_device(disk, start=placed.start, size=placed.size, patience=Patience(5)) as device:
        subprocess.run([*CHECKS[filesystem], device], check=True, capture_output=True)
        said = subprocess.run(["blkid", "-p", "-s", "UUID", "-o", "value", device], check=True, capture_output=True)
    assert said.stdout.decode().strip() == placed.uuid
    assert not list(traces(tmp_path))


def test_a_tree_is_split_over_partitions_and_disks(tmp_path: Path, tree: Path, write: Write) -> None:
    layout = Layout(
        disks=[
            Disk(
                table=Table.MBR,
                partitions=[Partition(filesystem=FileSystem.SWAP, size=MIB, label="sw"), replace(ROOT, label="root")],
            ),
            Disk(partitions=[Partition(mount="/var", size=24 * MIB), Partition(mount="/tmp", size=8 * MIB)]),
            Disk(table=Table.NONE, partitions=[Partition(mount="/var/log", size=8 * MIB)]),
        ]
    )
    targets = write(layout)
    whole, found = facts(tree), dict[str, object]()
    for disk, target in zip(place(layout, seed=SEED), targets, strict=True):
        for placed in disk.partitions:
            if placed.partition.mount:
                with mounted(target, placed) as there:
                    inside = Path(placed.partition.mount.strip("/"))
                    found |= {str(inside / name): said for name, said in facts(there).items()}
    assert found == whole
    table = subprocess.run(["sfdisk", "--verify", targets[0]], check=True, capture_output=True, text=True)
    assert "No errors detected" in table.stdout
    with targets[0].open("rb") as first:
        first.seek(MIB + 4086)
        assert first.read(10) == b"SWAPSPACE2"
    assert not list(traces(tmp_path))


def test_the_same_tree_and_seed_give_the_same_bytes(tmp_path: Path, tree: Path, write: Write) -> None:
    layout = bootable(from_sizes(root=48 * MIB, swap=MIB, opt=8 * MIB), Loader.EITHER)
    again = tmp_path / "again"
    for folder in ("var", "usr", "etc"):  # in another order, so that inodes and entries lie otherwise
        (again / folder).mkdir(parents=True)
    fill_tree(again)
    (one,), (other,) = (
        write(layout, loader=Loader.EITHER),
        write(layout, loader=Loader.EITHER, root=again, name="other"),
    )
    assert sha256(one) == sha256(other)


def test_a_block_device_is_written_as_a_file_is(tmp_path: Path, tree: Path, write: Write) -> None:
    layout = bootable(from_sizes(root=48 * MIB, swap=MIB), Loader.EITHER)
    (disk,) = write(layout, loader=Loader.EITHER)
    size = disk.stat().st_size
    backing = tmp_path / "device"
    backing.write_bytes(b"\0" * size)
    with loop_device(backing, start=0, size=size, patience=Patience(5)) as device:
        write_to([device], layout, tree, Loader.EITHER)
    assert sha256(backing) == sha256(disk)


def test_a_device_that_holds_something_is_written_to_only_when_that_is_said(tmp_path: Path, tree: Path) -> None:
    layout = whole_disk(32 * MIB)
    backing = tmp_path / "device"
    backing.write_bytes(b"\0" * (64 * MIB))
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", backing], check=True)
    before = sha256(backing)
    with loop_device(backing, start=0, size=64 * MIB, patience=Patience(5)) as device:
        with pytest.raises(Refused, match=r"holds something: ext4"):
            write_to([device], layout, tree)
        assert sha256(backing) == before
        write_to([device], layout, tree, overwrite=True)
    (placed,) = place(layout, seed=SEED, sizes=[64 * MIB])[0].partitions
    with mounted(backing, placed) as there:
        assert (there / "etc/hostname").read_text() == "tree\n"


def test_a_device_in_use_is_never_written_to(tmp_path: Path, tree: Path) -> None:
    layout = whole_disk(32 * MIB)
    backing, folder = tmp_path / "device", tmp_path / "used"
    backing.write_bytes(b"\0" * (64 * MIB))
    folder.mkdir()
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", backing], check=True)
    with loop_device(backing, start=0, size=64 * MIB, patience=Patience(5)) as device:
        subprocess.run(["mount", device, folder], check=True)
        try:
            with pytest.raises(Refused, match="is in use"):
                write_to([device], layout, tree, overwrite=True)
        finally:
            subprocess.run(["umount", folder], check=True)
        with pytest.raises(Refused, match="too small for disk 1"):
            write_to([device], whole_disk(128 * MIB), tree, overwrite=True)


def test_a_file_that_is_there_is_replaced_only_when_that_is_said_and_only_by_a_whole_one(
    tmp_path: Path, tree: Path
) -> None:
    target = tmp_path / "disk.raw"
    target.write_text("the old one")
    (tree / "large").write_bytes(os.urandom(2 * MIB))
    with pytest.raises(Refused, match="is there already"):
        write_to([target], whole_disk(32 * MIB), tree)
    with pytest.raises(CommandFailed, match="mke2fs"):
        write_to([target], whole_disk(MIB), tree, overwrite=True)  # the tree has no room in it
    assert target.read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.raw", "tree"]
    write_to([target], whole_disk(32 * MIB), tree, overwrite=True)
    assert target.stat().st_size == 32 * MIB


def test_a_large_disk_takes_no_more_room_than_what_is_on_it(write: Write) -> None:
    (disk,) = write(from_sizes(root=200 << 30, swap=8 << 30))
    assert disk.stat().st_blocks * 512 < 128 * MIB


def test_a_host_without_loop_devices_or_device_mapper_is_told_so(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CONTROL", tmp_path / "loop-control")
    monkeypatch.setattr(lvm, "CONTROL", tmp_path / "control")
    write_to([tmp_path / "ext4.raw"], whole_disk(32 * MIB), tree)  # needs none
    with pytest.raises(Refused, match="no loop devices") as no:
        write_to([tmp_path / "xfs.raw"], whole_disk(320 * MIB, filesystem=FileSystem.XFS), tree)
    assert "modprobe loop" in no.value.hint
    volume = replace(ROOT, label="root", size=None)
    group = Partition(filesystem=FileSystem.LVM, size=64 * MIB, group="lab", volumes=[volume])
    with pytest.raises(Refused, match="no device mapper") as no:
        write_to([tmp_path / "lvm.raw"], Layout(disks=[Disk(partitions=[group])]), tree)
    assert "modprobe dm-mod" in no.value.hint


def test_a_mount_point_behind_a_link_is_refused_and_the_host_is_left_alone(tmp_path: Path, tree: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree / "data").symlink_to(outside)
    layout = Layout(disks=[Disk(partitions=[ROOT, Partition(mount="/data/here", size=MIB)])])
    with pytest.raises(Refused, match="/data is a symbolic link"):
        prepare_root(layout, tree, seed=SEED, moment=MOMENT)
    assert not list(outside.iterdir())


def test_a_tree_without_a_kernel_cannot_be_made_to_boot(tmp_path: Path) -> None:
    tree = fill_tree(tmp_path / "without", kernel=False)
    with pytest.raises(Refused, match="no vmlinuz with its initrd"):
        prepare_root(from_sizes(root=48 * MIB), tree, seed=SEED, moment=MOMENT, loader=Loader.BIOS)


def test_ext4_fat_and_swap_need_no_root(tmp_path: Path, tree: Path, write: Write) -> None:
    """As somebody else, who may read the tree and write to one folder; the bytes are the same."""
    layout = bootable(from_sizes(root=48 * MIB, swap=MIB), Loader.EITHER)
    for name in ("etc", "boot/efi"):
        (tmp_path / "plain" / name).mkdir(parents=True)
    for name in ("etc/hostname", "boot/vmlinuz-1", "boot/initrd.img-1"):
        (tmp_path / "plain" / name).write_text(name)
    (disk,) = write(layout, loader=Loader.EITHER, root=tmp_path / "plain")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(tmp_path / "plain", Path(folder, "tree"))
        os.chown(folder, NOBODY, NOBODY)
        child = os.fork()
        if child == 0:
            status = 1
            with suppress(BaseException):
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                write_to([Path(folder, "disk.raw")], layout, Path(folder, "tree"), Loader.EITHER)
                status = 0
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert sha256(Path(folder, "disk.raw")) == sha256(disk)
    with pytest.raises(Refused, match="is no folder"):
        write_to([tmp_path / "none/disk.raw"], layout, tree)


def test_two_loop_devices_at_once_are_two(tmp_path: Path, tree: Path) -> None:
    file, patience = tree / "var/log/long", Patience(5)
    with (
        loop_device(file, start=0, size=4096, patience=patience) as one,
        loop_device(file, start=4096, size=4096, patience=patience) as other,
    ):
        assert one != other
    assert not list(traces(tmp_path))


HANGS = """\
import sys
from pathlib import Path
from test_disks import *
folder, hanging = Path(sys.argv[1]), sys.argv[2]
path = f"{folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
layout = bootable(Layout(disks=[
    Disk(partitions=[Partition(filesystem=FileSystem.SWAP, size=MIB), ROOT, Partition(mount="/opt", size=8 * MIB)]),
    Disk(table=Table.NONE, partitions=[Partition(mount="/srv", size=320 * MIB, filesystem=FileSystem.XFS)]),
]), Loader.EITHER)
prepare_root(layout, folder / "tree", seed=SEED, moment=MOMENT, loader=Loader.EITHER)
write_disks(layout, folder / "tree", [folder / "one.raw", folder / "two.raw"], seed=SEED, moment=MOMENT,
    loader=Loader.EITHER, overwrite=True, scratch=folder,
    channel=LocalChannel(environment={"PATH": path}), patience=Patience(60))
"""


@pytest.mark.parametrize(
    "program", ["sfdisk", "mke2fs", "debugfs", "mkfs.xfs", "cp", "mkswap", "mformat", "mcopy", "grub-mkimage"]
)
def test_killed_at_any_step_it_leaves_no_process_mount_or_loop_device(program: str, tmp_path: Path, tree: Path) -> None:
    """The program hangs when it is reached, in whatever mounts and loop devices there are then; then comes SIGKILL."""
    (tmp_path / "one.raw").write_text("the old one")
    stand_in, reached = tmp_path / "bin" / program, tmp_path / "reached"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\necho yes > {reached}\ncd {tmp_path}\nexec sleep 3600\n")
    stand_in.chmod(0o755)
    child = subprocess.Popen(
        [sys.executable, "-c", HANGS, str(tmp_path), program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
        start_new_session=True,
    )
    try:
        Patience(30).until(lambda: reached.exists() or child.poll() is not None, f"{program} to be reached", every=0.02)
        assert child.poll() is None
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    Patience(10).until(lambda: not list(traces(tmp_path)), "all traces to go", every=0.05)
    assert (tmp_path / "one.raw").read_text() == "the old one"
    assert not (tmp_path / "two.raw").exists()
