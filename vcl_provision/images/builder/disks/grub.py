"""GRUB, put on a disk without a device node of any partition: images made by grub-mkimage, written where they belong.

What grub-bios-setup would do to boot.img and core.img: include/grub/i386/pc/boot.h and util/setup.c of GRUB 2.06.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.disks.confined import DIES_WITH_US
from vcl_provision.images.builder.disks.layout import FileSystem, Table
from vcl_provision.images.builder.disks.placing import SECTOR, Placed, PlacedDisk, filesystems
from vcl_provision.model.faults import Refused

EFI_PATH = "EFI/BOOT/BOOTX64.EFI"
"""Where UEFI firmware looks if it has been told nothing: UEFI 2.10, section 3.5.1.1."""

_LIBRARY = Path("/usr/lib/grub")
_MODULES = (
    *("part_gpt", "part_msdos", "lvm", "ext2", "xfs", "btrfs", "search", "search_fs_uuid"),
    *("normal", "configfile", "linux", "boot", "gzio", "test", "keystatus", "sleep"),
    *("serial", "terminal", "echo", "ls", "cat", "reboot", "halt"),
)
_BIOS_MODULES = ("biosdisk",)
_EFI_MODULES = ("efi_gop", "efi_uga")  # else Linux is started without a screen
_CODE = 440  # bytes of a master boot record before its own data
_KERNEL_SECTOR, _BOOT_DRIVE, _DRIVE_CHECK = 0x5C, 0x64, 0x66
_BLOCK_LIST = SECTOR - 12
_LINE = re.compile(r"[A-Za-z0-9 _.,:;=/@+%*()\[\]-]*")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel that lies in a boot folder, with its first ram disk."""

    version: str
    image: str
    initrd: str


@dataclass(frozen=True, kw_only=True)
class BootFolder:
    """Where /boot lies: on the file system with this UUID, there at this path (empty for its top)."""

    uuid: str
    path: str


def boot_folder(disks: Sequence[PlacedDisk]) -> BootFolder:
    """What a boot loader has to look for, and where in it."""
    by_mount = {placed.partition.mount: placed.uuid for placed in filesystems(disks) if placed.partition.mount}
    if "/boot" in by_mount:
        return BootFolder(uuid=by_mount["/boot"], path="")
    return BootFolder(uuid=by_mount["/"], path="/boot")


def find_kernels(root: Path) -> Sequence[Kernel]:
    """Those in a root folder's /boot, the newest first. Raises Refused if there is none that could be started."""
    boot = root / "boot"
    versions = [path.name.removeprefix("vmlinuz-") for path in boot.glob("vmlinuz-*")]
    kernels = [
        Kernel(version=version, image=f"vmlinuz-{version}", initrd=f"initrd.img-{version}")
        for version in sorted(versions, key=_by_number, reverse=True)
        if (boot / f"initrd.img-{version}").exists()
    ]
    if not kernels:
        hint = "install a kernel and have its first ram disk made, or take the loader direct"
        raise Refused(f"{boot} has no vmlinuz with its initrd.img", hint)
    return kernels


def grub_config(kernels: Sequence[Kernel], folder: BootFolder, command_line: str) -> str:
    """grub.cfg: the newest kernel at once; a menu of all for whoever holds Shift, on screen and first serial port.

    Raises Refused for a command line that would mean something to GRUB itself.
    """
    if not _LINE.fullmatch(command_line):
        raise Refused(f"the kernel's command line {command_line!r} has characters that GRUB would take for its own")
    head = f"""\
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
search --no-floppy --fs-uuid --set=root {folder.uuid}
set default=0
set timeout=0
if keystatus --shift; then set timeout=-1; fi
"""
    return head + "".join(
        f"menuentry 'Linux {kernel.version}' {{\n"
        f"    linux {folder.path}/{kernel.image} {command_line}\n"
        f"    initrd {folder.path}/{kernel.initrd}\n}}\n"
        for kernel in kernels
    )


def write_bios_loader(
    device: Path, disk: PlacedDisk, folder: BootFolder, *, scratch: Path, channel: Channel, patience: Patience
) -> None:
    """Puts GRUB where a BIOS starts it: its first sector in the first of the disk, the rest in the gap or partition."""
    room = _room_for_core(disk)
    core = _image("i386-pc", _BIOS_MODULES, folder, scratch / "core.img", channel, patience)
    if len(core) > room[1]:
        said = f"GRUB needs {len(core)} bytes, its place on the disk has {room[1]}"
        raise Refused(said, "a biosboot partition of 1 MiB is enough")
    boot = (_LIBRARY / "i386-pc/boot.img").read_bytes()
    first, rest = located(boot, core, sector=room[0] // SECTOR)
    with device.open("r+b") as opened:
        opened.write(first)
        opened.seek(room[0])
        opened.write(rest)


def make_efi_loader(folder: BootFolder, *, scratch: Path, channel: Channel, patience: Patience) -> Path:
    """GRUB as one program for UEFI firmware: a file in `scratch`."""
    program = scratch / "grub.efi"
    _image("x86_64-efi", _EFI_MODULES, folder, program, channel, patience)
    return program


def located(boot: bytes, core: bytes, *, sector: int) -> tuple[bytes, bytes]:
    """boot.img's code and core.img, told that core.img lies in one piece from that sector on.

    The code is what goes before the partition table. The BIOS's word on which drive it boots from is taken.
    """
    first = bytearray(boot[:_CODE])
    struct.pack_into("<Q", first, _KERNEL_SECTOR, sector)
    first[_BOOT_DRIVE] = 0xFF
    first[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"  # hard disks: no work-around for BIOSes that mean floppies
    rest = bytearray(core + b"\0" * (-len(core) % SECTOR))
    struct.pack_into("<QH", rest, _BLOCK_LIST, sector + 1, len(rest) // SECTOR - 1)
    return bytes(first), bytes(rest)


def _room_for_core(disk: PlacedDisk) -> tuple[int, int]:
    """Offset and size in bytes."""
    if disk.table is Table.MBR:
        return SECTOR, disk.partitions[0].start - SECTOR
    place: Placed = next(part for part in disk.partitions if part.partition.filesystem is FileSystem.BIOS_BOOT)
    return place.start, place.size


def _image(
    target: str, own: Sequence[str], folder: BootFolder, made: Path, channel: Channel, patience: Patience
) -> bytes:
    config = made.with_suffix(".cfg")
    prefix = f"{folder.path}/grub"
    config.write_text(f"search.fs_uuid {folder.uuid} root\nset prefix=($root){prefix}\n", encoding="utf-8")
    where = ("-d", str(_LIBRARY / target), "-o", str(made), "-p", prefix, "-c", str(config))
    channel.run((*DIES_WITH_US, "grub-mkimage", "-O", target, *where, *own, *_MODULES), patience=patience)
    return made.read_bytes()


def _by_number(version: str) -> list[tuple[int, str]]:
    """6.1.0-50 after 6.1.0-9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", version)]
