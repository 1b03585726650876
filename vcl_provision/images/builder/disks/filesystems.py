"""Makes a file system in its place on a disk, filled from a folder.

ext4, FAT and swap are written into the file or device as it is: no root, no mount, no loop device. xfs and btrfs are
filled by the kernel, mounted where nobody else sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.disks.confined import DIES_WITH_US, in_private_mounts
from vcl_provision.images.builder.disks.layout import FileSystem, Partition
from vcl_provision.images.builder.disks.loop import loop_device
from vcl_provision.images.builder.disks.placing import SECTOR
from vcl_provision.model.faults import Refused

_ROOT_INODE, _FIRST_INODE = 2, 11  # between them is what belongs to ext4 itself; the first one is lost+found

_MKE2FS_CONFIG = Path(__file__).with_name("mke2fs.conf")
_FAT_BOOT_SECTORS = (0, 6)
_TABLE_IN_SECTOR = 446

_HIDE = """\
moment=$1; shift
while [ "$1" != -- ]; do
    mount -t tmpfs -o "$2" tmpfs "$1"
    touch -d "@$moment" "$1"
    shift 2
done
shift
"""
_FILL = """\
mount -o "$1" "$2" "$3"
cp -R -d --preserve=mode,ownership,timestamps,links,xattr "$4/." "$3"
umount "$3"
"""


@dataclass(frozen=True, kw_only=True)
class Room:
    """Where a file system goes: bytes of a file or device. `blank`: there are only zeros yet."""

    device: Path
    start: int
    size: int
    blank: bool = False


@dataclass(frozen=True, kw_only=True)
class Content:
    """What goes into it: a folder, without what lies under the `hidden` ones, which become empty.

    `extra` are further files for FAT, by their path there.
    """

    folder: Path
    hidden: Sequence[Path] = ()
    extra: Sequence[tuple[str, Path]] = ()


class Formatter:
    """Makes file systems. `moment` is the time of everything that has none of its own, seconds since 1970.

    `scratch` is a folder for what is needed meanwhile, emptied by whoever made it.
    """

    def __init__(self, *, moment: int, scratch: Path, channel: Channel, patience: Patience) -> None:
        self._moment = moment
        self._scratch = scratch
        self._channel = channel
        self._patience = patience

    def make(self, partition: Partition, uuid: str, room: Room, content: Content | None) -> None:
        """Makes it; empty if there is no content. Raises Refused, CommandFailed, TimedOut, Cancelled."""
        match partition.filesystem:
            case FileSystem.EXT4:
                self._ext4(partition, uuid, room, content)
            case FileSystem.XFS | FileSystem.BTRFS:
                self._by_kernel(partition, uuid, room, content)
            case FileSystem.ESP:
                self._fat(partition, uuid, room, content)
            case FileSystem.SWAP:
                self._swap(partition, uuid, room)
            case FileSystem.BIOS_BOOT | FileSystem.NONE | FileSystem.LVM:
                pass

    def _ext4(self, partition: Partition, uuid: str, room: Room, content: Content | None) -> None:
        # Nothing lazy: each clone's kernel would write it all over its own disk in the background.
        extended = f"offset={room.start},hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        if room.blank:
            extended += ",assume_storage_prezeroed=1"  # needs no zeros written: they would fill the holes of the file
        argv = [
            *("env", f"E2FSPROGS_FAKE_TIME={self._moment}", f"MKE2FS_CONFIG={_MKE2FS_CONFIG}"),
            *("mke2fs", "-q", "-F", "-t", "ext4", "-U", uuid, "-E", extended, *_labelled(partition)),
            *(("-O", ",".join(partition.features)) if partition.features else ()),
            *(("-d", str(content.folder)) if content else ()),
            *(str(room.device), f"{room.size // 1024}k"),
        ]
        if content and content.hidden:
            self._run(in_private_mounts(_HIDE + 'exec "$@"', *self._hiding(content), *argv))
        else:
            self._run((*DIES_WITH_US, *argv))
        if content:
            self._settle(content.folder, room)

    def _settle(self, folder: Path, room: Room) -> None:
        """mke2fs leaves the root's owner and mode out, and takes in when the folder's inodes were last changed here."""
        place = f"{room.device}?offset={room.start}"
        last = last_inode(self._ask(("dumpe2fs", "-h", place)))
        mode, uid, gid = self._owned(folder)
        lines = [f"sif <2> mode {mode}", f"sif <2> uid {uid}", f"sif <2> gid {gid}"]
        for number in (_ROOT_INODE, *range(_FIRST_INODE, last + 1)):
            lines += [f"sif <{number}> {field} @{self._moment}" for field in ("ctime", "atime")]
        argv = (*DIES_WITH_US, "env", f"E2FSPROGS_FAKE_TIME={self._moment}", "debugfs", "-w", "-f", "-", place)
        ran = self._channel.run(argv, patience=self._patience, stdin="\n".join([*lines, ""]).encode())
        said = [line for line in ran.stderr.splitlines() if not line.startswith("debugfs ")]
        if said:  # its status is zero all the same
            raise Refused(f"debugfs could not set times in {room.device}: {said[0]}", "is the disk's folder full?")

    def _by_kernel(self, partition: Partition, uuid: str, room: Room, content: Content | None) -> None:
        with loop_device(room.device, start=room.start, size=room.size, patience=self._patience) as loop:
            if partition.filesystem is FileSystem.XFS:
                argv = ("mkfs.xfs", "-q", "-f", "-m", f"uuid={uuid}", *_labelled(partition), str(loop))
            else:
                argv = ("mkfs.btrfs", "-q", "-f", "-U", uuid, *_labelled(partition), str(loop))
            self._run((*DIES_WITH_US, *argv))
            if content is None:
                return
            into = self._scratch / "filled"
            into.mkdir(exist_ok=True)
            # The host may have a copy of this very file system mounted, from an earlier build.
            options = "nouuid,nodev,nosuid" if partition.filesystem is FileSystem.XFS else "nodev,nosuid"
            paths = (options, str(loop), str(into), str(content.folder))
            self._run(in_private_mounts(_HIDE + _FILL, *self._hiding(content), *paths))

    def _fat(self, partition: Partition, uuid: str, room: Room, content: Content | None) -> None:
        image = ("-i", f"{room.device}@@{room.start}")
        serial = uuid.replace("-", "")
        label = ("-v", partition.label) if partition.label else ()
        sectors = room.size // SECTOR
        geometry = ("-T", str(sectors), "-h", "16", "-s", "32", "-H", str(room.start // SECTOR))
        self._mtools("mformat", *image, "-F", "-N", serial, *label, *geometry, "::")
        with room.device.open("r+b") as disk:
            for sector in _FAT_BOOT_SECTORS:  # mformat leaves a partition table in them, of no partition that there is
                disk.seek(room.start + sector * SECTOR + _TABLE_IN_SECTOR)
                disk.write(bytes(64))
        if content is None:
            return
        files = {**dict(_files(content.folder)), **dict(content.extra)}
        for folder in sorted({str(parent) for path in files for parent in Path(path).parents} - {"."}):
            self._mtools("mmd", *image, f"::/{folder}")
        for path, source in sorted(files.items()):
            self._mtools("mcopy", *image, "-m", "-Q", str(source), f"::/{path}")

    def _swap(self, partition: Partition, uuid: str, room: Room) -> None:
        """mkswap knows no offset: it marks a file of that size, whose beginning is then put in place."""
        blank = self._scratch / "swap"
        with blank.open("wb") as file:
            file.truncate(room.size)
        blank.chmod(0o600)
        self._run((*DIES_WITH_US, "mkswap", "-U", uuid, *_labelled(partition), str(blank)))
        with blank.open("rb") as marked, room.device.open("r+b") as disk:
            disk.seek(room.start)
            disk.write(marked.read(64 * 1024))
        blank.unlink()

    def _hiding(self, content: Content) -> Iterator[str]:
        yield str(self._moment)
        for folder in content.hidden:
            mode, uid, gid = self._owned(folder)
            yield from (str(folder), f"mode={mode[-4:]},uid={uid},gid={gid}")
        yield "--"

    def _owned(self, folder: Path) -> tuple[str, str, str]:
        """Mode (octal, with its type), user and group. As the channel sees them: there may be other ids inside."""
        mode, uid, gid = self._ask(("stat", "--format=%f %u %g", str(folder))).split()
        return f"0{int(mode, 16):o}", uid, gid

    def _mtools(self, *argv: str) -> None:
        said = ("env", f"SOURCE_DATE_EPOCH={self._moment}", "TZ=UTC", "MTOOLS_SKIP_CHECK=1")
        self._run((*DIES_WITH_US, *said, *argv))

    def _run(self, argv: Sequence[str]) -> None:
        self._channel.run(argv, patience=self._patience)

    def _ask(self, argv: Sequence[str]) -> str:
        return self._channel.run(argv, patience=self._patience, changes=False).stdout


def last_inode(dumped: str) -> int:
    """The number of the last inode in use, from the head of what dumpe2fs says of a file system that mke2fs filled.

    mke2fs takes one after the other, and frees none.
    """
    found = [re.search(rf"^{field}: +(\d+)$", dumped, re.MULTILINE) for field in ("Inode count", "Free inodes")]
    if not found[0] or not found[1]:
        raise Refused("dumpe2fs does not say how many inodes there are", "another version of e2fsprogs, perhaps")
    return int(found[0][1]) - int(found[1][1])


def _labelled(partition: Partition) -> Sequence[str]:
    return ("-L", partition.label) if partition.label else ()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path
