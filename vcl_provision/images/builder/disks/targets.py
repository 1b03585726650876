"""What disks are written to: files that are not there until they are whole, and block devices that nobody uses."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.disks.confined import DIES_WITH_US
from vcl_provision.model.faults import Refused

_NOTHING_FOUND = 2  # of blkid


def device_size(path: Path) -> int | None:
    """Bytes of a block device; None for a file, there or not."""
    if not _is_device(path):
        return None
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(opened, 0, os.SEEK_END)
    finally:
        os.close(opened)


def check_target(path: Path, *, overwrite: bool, channel: Channel, patience: Patience) -> None:
    """Raises Refused if something would be lost: a file that is there, a device that holds something or is in use.

    `overwrite` allows all but a device in use.
    """
    if not _is_device(path):
        if not path.parent.is_dir():
            raise Refused(f"{path} cannot be made: {path.parent} is no folder", "make it first")
        if path.exists() and not overwrite:
            raise Refused(f"{path} is there already", "say overwrite to replace it, or choose another name")
        return
    _check_unused(path)
    if overwrite:
        return
    argv = ("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "value", str(path))
    found = channel.run(argv, patience=patience, changes=False, accept=(0, _NOTHING_FOUND)).stdout.split()
    if found:
        said = f"{path} holds something: {', '.join(found)}"
        raise Refused(said, "say overwrite if nothing on it is needed any more: all of it will be lost")


@contextmanager
def blank_disks(
    targets: Sequence[Path], sizes: Sequence[int], *, channel: Channel, patience: Patience
) -> Generator[Sequence[Path]]:
    """What to write to instead of each target: the device, wiped, or a sparse file beside it of so many bytes.

    The files take their places when left without an error, all of them; otherwise nothing has changed.
    """
    beside = {path: path.with_name(f".{path.name}.partial") for path in targets if not _is_device(path)}
    try:
        for path, size in zip(targets, sizes, strict=True):
            if path in beside:
                beside[path].unlink(missing_ok=True)  # of one that was killed
                with beside[path].open("xb") as file:
                    file.truncate(size)
            else:
                channel.run((*DIES_WITH_US, "wipefs", "--quiet", "--all", str(path)), patience=patience)
        yield [beside.get(path, path) for path in targets]
        for path in targets:
            _flush(beside.get(path, path))
            if path not in beside:  # a kernel that knows partitions is to see the new ones
                channel.run(("blockdev", "--rereadpt", str(path)), patience=patience, accept=range(256))
        for path, written in beside.items():
            written.replace(path)
    finally:
        for written in beside.values():
            written.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISBLK(path.stat().st_mode)
    return False


def _check_unused(path: Path) -> None:
    """The kernel refuses O_EXCL on a device that is mounted, swapped on or part of another, as a whole or in parts."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
    except OSError as no:
        if no.errno == errno.EBUSY:
            raise Refused(f"{path} is in use", f"see what uses it: lsblk {path}; unmount or stop that first") from no
        raise Refused(f"{path} cannot be written to: {no.strerror}", "a block device needs root") from no


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
