"""Writes a machine's root folder to its disks: files or block devices, by the same code."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.disks import lvm
from vcl_provision.images.builder.disks.confined import DIES_WITH_US
from vcl_provision.images.builder.disks.filesystems import Content, Formatter, Room
from vcl_provision.images.builder.disks.grub import EFI_PATH, boot_folder, make_efi_loader, write_bios_loader
from vcl_provision.images.builder.disks.layout import FileSystem, Layout, Table
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.builder.disks.placing import Placed, PlacedDisk, filesystems, place
from vcl_provision.images.builder.disks.tables import sfdisk_script
from vcl_provision.images.builder.disks.targets import blank_disks, check_target, device_size
from vcl_provision.model.faults import Refused

Say = Callable[[str], None]
_ALWAYS: Mapping[str, str] = dict.fromkeys(("setpriv", "unshare", "blkid", "wipefs", "blockdev"), "util-linux")
_BY_FILESYSTEM = {
    FileSystem.EXT4: {"mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "dumpe2fs": "e2fsprogs"},
    FileSystem.XFS: {"mkfs.xfs": "xfsprogs", "mount": "mount"},
    FileSystem.BTRFS: {"mkfs.btrfs": "btrfs-progs", "mount": "mount"},
    FileSystem.SWAP: {"mkswap": "util-linux"},
    FileSystem.ESP: {"mformat": "mtools", "mmd": "mtools", "mcopy": "mtools"},
    FileSystem.LVM: {"pvcreate": "lvm2", "vgcreate": "lvm2", "lvcreate": "lvm2", "vgchange": "lvm2"},
}


def tools(layout: Layout, loader: Loader) -> Mapping[str, str]:
    """Programs that writing these disks takes, each with the Debian package that has it: for require_host."""
    needed: dict[str, str] = dict(_ALWAYS)
    if any(disk.table is not Table.NONE for disk in layout.disks):
        needed["sfdisk"] = "fdisk"
    for disk in layout.disks:
        for partition in disk.partitions:
            for part in (partition, *partition.volumes):
                needed |= _BY_FILESYSTEM.get(part.filesystem, {})
    if loader is not Loader.DIRECT:
        needed["grub-mkimage"] = "grub-common"
    if loader.bios:
        needed["/usr/lib/grub/i386-pc/boot.img"] = "grub-pc-bin"
    if loader.uefi:
        needed["/usr/lib/grub/x86_64-efi/moddep.lst"] = "grub-efi-amd64-bin"
    return needed


def check_disks(
    layout: Layout, targets: Sequence[Path], *, seed: str, overwrite: bool, channel: Channel, patience: Patience
) -> Sequence[PlacedDisk]:
    """Everything that can be known before hours of building: one target per disk, large enough, nothing lost on it.

    Raises Refused.
    """
    if len(targets) != len(layout.disks):
        raise Refused(f"there are {len(layout.disks)} disks, and {len(targets)} places for them", "give one for each")
    if len(set(targets)) != len(targets):
        raise Refused("two disks cannot be written to one place", "give one for each")
    if any(partition.volumes for disk in layout.disks for partition in disk.partitions):
        lvm.check_host()
    for target in targets:
        check_target(target, overwrite=overwrite, channel=channel, patience=patience)
    return place(layout, seed=seed, sizes=[device_size(target) for target in targets])


def write_disks(
    layout: Layout,
    root: Path,
    targets: Sequence[Path],
    *,
    seed: str,
    moment: int,
    loader: Loader = Loader.DIRECT,
    overwrite: bool = False,
    scratch: Path | None = None,
    channel: Channel,
    patience: Patience,
    say: Say = lambda _: None,
) -> None:
    """Divides, fills and makes bootable one disk per target: a file to be made, or a block device.

    `layout` is the bootable one and `root` was prepared for it (prepare_root); `seed` names UUIDs, `moment` is the time
    of all that has none of its own (seconds since 1970, at least 1): the same of each give the same bytes, but for xfs
    and btrfs, whose contents are the same. `scratch` is a folder for small things meanwhile. Files take their places
    when all disks are whole; on a device that fails half-way nothing of the old is left.
    Raises Refused (see check_disks), CommandFailed, TimedOut, Cancelled.
    """
    disks = check_disks(layout, targets, seed=seed, overwrite=overwrite, channel=channel, patience=patience)
    with ExitStack() as until_done:
        meanwhile = Path(until_done.enter_context(tempfile.TemporaryDirectory(prefix="vcl-disks-", dir=scratch)))
        sizes = [disk.size for disk in disks]
        blank = until_done.enter_context(blank_disks(targets, sizes, channel=channel, patience=patience))
        writing = _Writing(disks=disks, root=root, moment=moment, scratch=meanwhile, channel=channel, patience=patience)
        for device, disk in zip(blank, disks, strict=True):
            writing.table(device, disk)
        extra = writing.efi_loader() if loader.uefi else ()
        for device, disk in zip(blank, disks, strict=True):
            for placed in disk.partitions:
                say(f"writing {placed.partition.filesystem} {placed.partition.mount}".rstrip())
                writing.partition(device, placed, extra)
        if loader.bios:
            say("writing the boot loader")
            writing.bios_loader(blank[0])


@dataclass(frozen=True, kw_only=True)
class _Writing:
    """The disks of one machine, being written."""

    disks: Sequence[PlacedDisk]
    root: Path
    moment: int
    scratch: Path
    channel: Channel
    patience: Patience

    def table(self, device: Path, disk: PlacedDisk) -> None:
        """The kernel is not told: partitions are reached by their place, on hosts too that know no partition tables."""
        if disk.table is Table.NONE:
            return
        argv = (*DIES_WITH_US, "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", str(device))
        self.channel.run(argv, patience=self.patience, stdin=sfdisk_script(disk).encode())

    def partition(self, device: Path, placed: Placed, extra: Sequence[tuple[str, Path]]) -> None:
        if placed.volumes:
            with lvm.logical_volumes(device, placed, channel=self.channel, patience=self.patience) as volumes:
                for volume, node in volumes:
                    self._fill(volume, Room(device=node, start=0, size=device_size(node) or 0), extra)
        else:
            room = Room(device=device, start=placed.start, size=placed.size, blank=device.is_file())
            self._fill(placed, room, extra)

    def efi_loader(self) -> Sequence[tuple[str, Path]]:
        folder = boot_folder(self.disks)
        program = make_efi_loader(folder, scratch=self.scratch, channel=self.channel, patience=self.patience)
        os.utime(program, (self.moment, self.moment))
        return [(EFI_PATH, program)]

    def bios_loader(self, device: Path) -> None:
        write_bios_loader(
            device,
            self.disks[0],
            boot_folder(self.disks),
            scratch=self.scratch,
            channel=self.channel,
            patience=self.patience,
        )

    def _fill(self, placed: Placed, room: Room, extra: Sequence[tuple[str, Path]]) -> None:
        formatter = Formatter(moment=self.moment, scratch=self.scratch, channel=self.channel, patience=self.patience)
        formatter.make(placed.partition, placed.uuid, room, self._content(placed, extra))

    def _content(self, placed: Placed, extra: Sequence[tuple[str, Path]]) -> Content | None:
        mount = placed.partition.mount
        if not mount:
            return None
        return Content(folder=self._inside(mount), hidden=list(self._below(mount)), extra=extra)

    def _below(self, mount: str) -> Iterator[Path]:
        """What has something in it and is another file system's; not what lies under that again."""
        mounts = sorted(placed.partition.mount for placed in filesystems(self.disks))
        seen: list[str] = []
        for other in mounts:
            inside = other.startswith(mount.rstrip("/") + "/") and other != mount
            if inside and not any(other.startswith(f"{above}/") for above in seen) and _has_files(self._inside(other)):
                seen.append(other)
                yield self._inside(other)

    def _inside(self, mount: str) -> Path:
        return self.root / mount.lstrip("/")


def _has_files(folder: Path) -> bool:
    """Whether there may be any: what only its owner may read counts."""
    try:
        return next(folder.iterdir(), None) is not None
    except PermissionError:
        return True
