"""Disks that boot: by a BIOS and by UEFI firmware from the same layout, by a kernel handed over, each by what is laid
beside them to start them with.

The machine tells on its serial port what it found, and turns itself off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from a_need import need, need_root
from fix_guests import images_folder

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder import cached_image, load_profile
from vcl_provision.images.builder.deploy.built_machine import BuiltMachine, DirectBoot
from vcl_provision.images.builder.deploy.targets import Target, lay
from vcl_provision.images.builder.disks.layout import MIB, Disk, FileSystem, Layout, Partition, Table, whole_disk
from vcl_provision.images.builder.disks.loaders import Loader, bootable
from vcl_provision.images.builder.disks.loop import loop_device
from vcl_provision.images.builder.disks.placing import root_uuid
from vcl_provision.images.builder.disks.prepare import prepare_root
from vcl_provision.images.builder.disks.writing import write_disks
from vcl_provision.images.formats.words import DiskFormat

MOMENT = 1_700_000_000
MAC = "52:54:00:ab:cd:ef"
COMMAND_LINE = "console=ttyS0 loglevel=3"
TELLS = """\
#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
modprobe -a virtio_net vfat nls_cp437 nls_ascii nls_iso8859_1 xfs
mount -a
swapon -a
. /usr/lib/vcl/grow-root
grow_root
{
    while read -r _ place type _; do echo "mounted $place $type"; done < /proc/mounts
    while read -r place type _; do echo "swap $type"; done < /proc/swaps
    for card in /sys/class/net/e*; do echo "card $(cat "$card/address")"; done
    echo "line $(cat /proc/cmdline)"
    df -m / | while read -r _ size _; do echo "root $size"; done
    echo "opt $(cat /opt/told)"
    [ ! -d /sys/firmware/efi ] || echo "firmware efi"
    echo "told all"
} > /dev/ttyS0
mount -o remount,ro /
poweroff -f
"""
LAYOUT = Layout(
    disks=[
        Disk(
            partitions=[
                Partition(filesystem=FileSystem.SWAP, size=16 * MIB),
                Partition(mount="/opt", size=300 * MIB, filesystem=FileSystem.XFS),
                Partition(mount="/", size=512 * MIB, label="system"),
            ]
        ),
        Disk(table=Table.MBR, partitions=[Partition(mount="/srv", size=16 * MIB)]),
    ]
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root folder of the small guest, with what it grows with; tells what it finds instead of starting anything."""
    need_root()
    need("qemu-img", "qemu-system-x86_64", "mkfs.xfs", "mformat", "grub-mkimage", "sfdisk")
    spec = load_profile("small")
    spec = replace(spec, grow=True, packages=replace(spec.packages, add=("e2fsprogs", "fdisk")))
    image = cached_image(spec, images_folder(), patience=Patience(900), say=print)
    folder = tmp_path_factory.mktemp("guest")
    root, raw, mounted = folder / "root", folder / "disk.raw", folder / "mounted"
    root.mkdir()
    mounted.mkdir()
    argv = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image / "disk.qcow2", raw]
    subprocess.run(argv, check=True)
    with loop_device(raw, start=0, size=raw.stat().st_size, patience=Patience(10)) as device:
        subprocess.run(["mount", "-o", "ro,noload", device, mounted], check=True)
        try:
            subprocess.run(["cp", "-a", f"{mounted}/.", root], check=True)
        finally:
            subprocess.run(["umount", mounted], check=True)
    raw.unlink()
    version = next(root.glob("boot/vmlinuz-*")).name.removeprefix("vmlinuz-")
    shutil.copyfile(image / "initrd.img", root / f"boot/initrd.img-{version}")
    (root / "etc/init.d/rcS").write_text(TELLS)
    (root / "opt/told").write_text("by a file on another partition\n")
    return root


def build(layout: Layout, tree: Path, folder: Path, loader: Loader) -> BuiltMachine:
    folder.mkdir(exist_ok=True)
    disks = [folder / f"disk{number}.raw" for number, _ in enumerate(layout.disks)]
    prepare_root(layout, tree, seed="boot", moment=MOMENT, loader=loader, command_line=COMMAND_LINE)
    channel, patience = LocalChannel(), Patience(120)
    write_disks(
        layout, tree, disks, seed="boot", moment=MOMENT, loader=loader, channel=channel, patience=patience, say=print
    )
    boot = None
    if loader is Loader.DIRECT:
        for name in ("vmlinuz", "initrd.img"):
            shutil.copyfile(next(tree.glob(f"boot/{name}-*")), folder / name)
        line = f"root=UUID={root_uuid(layout, 'boot')} {COMMAND_LINE}"
        boot = DirectBoot(kernel=folder / "vmlinuz", initrd=folder / "initrd.img", command_line=line)
    return BuiltMachine(
        name="tells", disks=disks, disk_format=DiskFormat.RAW, loader=loader, memory_mb=256, mac=MAC, boot=boot
    )


def start(machine: BuiltMachine, folder: Path, tree: Path, **environment: str) -> list[str]:
    """Starts it by its script until it turns itself off; what it told."""
    channel, patience = LocalChannel(), Patience(120)
    lay(Target.SCRIPT, machine, folder, place=folder, root=tree, moment=MOMENT, channel=channel, patience=patience)
    console = folder / "console"
    argv = ["setpriv", "--pdeathsig", "KILL", folder / "run", "-nographic", "-no-reboot", "-monitor", "none"]
    told: Mapping[str, str] = {**os.environ, "SSH_PORT": "0", **environment}
    subprocess.run([*argv, "-serial", f"file:{console}"], env=told, check=True, timeout=120, stdin=subprocess.DEVNULL)
    lines = console.read_text(errors="replace").replace("\r", "").splitlines()
    assert "told all" in lines, "\n".join(lines[-40:])
    return lines


def check_told(lines: list[str], layout: Layout) -> None:
    mounts = {
        (part.mount, "vfat" if part.filesystem is FileSystem.ESP else part.filesystem.value)
        for part in layout.filesystems()
        if part.mount
    }
    assert {(line.split()[1], line.split()[2]) for line in lines if line.startswith("mounted ")} >= mounts
    assert "swap partition" in lines
    assert f"card {MAC}" in lines
    assert "opt by a file on another partition" in lines
    assert any(line.startswith("line ") and f"root=UUID={root_uuid(layout, 'boot')}" in line for line in lines)


def root_size(lines: list[str]) -> int:
    """MiB."""
    return int([line.split()[1] for line in lines if line.startswith("root ")][-1])


def test_the_same_disks_boot_by_a_bios_and_by_uefi_firmware_and_grow(tree: Path, tmp_path: Path) -> None:
    layout = bootable(LAYOUT, Loader.EITHER)
    machine = build(layout, tree, tmp_path / "machine", Loader.EITHER)
    with machine.disks[0].open("r+b") as disk:
        disk.truncate(disk.seek(0, os.SEEK_END) + 300 * MIB)
    by_bios = start(machine, tmp_path / "machine", tree)
    check_told(by_bios, layout)
    assert "firmware efi" not in by_bios
    assert root_size(by_bios) > 700  # of 512 it has become 812, less what the file system needs
    (tmp_path / "machine/run").unlink()
    by_uefi = start(replace(machine, loader=Loader.UEFI), tmp_path / "machine", tree, ACCEL="tcg")
    check_told(by_uefi, layout)
    assert "firmware efi" in by_uefi
    assert root_size(by_uefi) == root_size(by_bios)
    checked = subprocess.run(["sfdisk", "--verify", machine.disks[0]], check=True, capture_output=True, text=True)
    assert "No errors detected" in checked.stdout


def test_a_disk_without_partitions_boots_by_a_kernel_handed_over(tree: Path, tmp_path: Path) -> None:
    layout = whole_disk(512 * MIB)
    machine = build(layout, tree, tmp_path / "machine", Loader.DIRECT)
    lines = start(machine, tmp_path / "machine", tree, ACCEL="tcg")
    assert "mounted / ext4" in lines
    assert f"card {MAC}" in lines
