"""A content that is on this machine already: its blocks are shared, or its file; its sum is taken all the same."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import layout
from vcl_provision.images.repository.folder import flush_folder
from vcl_provision.images.repository.sums import Expected, is_whole
from vcl_provision.images.repository.transfer import FileSource, Target, chunks
from vcl_provision.model.faults import Refused

_FICLONE = 0x40049409
"""ioctl_ficlone(2): btrfs and xfs can."""

_CANNOT = {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.EMLINK, errno.ENOSYS}
"""What file systems say that cannot share this file."""

Way = Callable[[Path, Path], None]


def share_blocks(source: Path, target: Path) -> None:
    """Two files with the same blocks, each of which may be changed. Raises OSError where that cannot be."""
    with source.open("rb") as have, target.open("xb") as want:
        fcntl.ioctl(want.fileno(), _FICLONE, have.fileno())


def share_file(source: Path, target: Path) -> None:
    """The same file under two names: for files of which nobody keeps another name to write by."""
    target.hardlink_to(source)


def shared(source: Path, target: Target, ways: Sequence[Way], patience: Patience) -> bool:
    """Puts it there in the first way that works; false if none does. Raises Refused if the content is another one."""
    path = target.place.local_path(target.path)
    beside = target.place.local_path(f"{layout.partial_path(target.blob)}.shared")
    if path is None or beside is None:
        return False
    for folder in (path.parent, beside.parent):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        if not any(_done(way, source, beside) for way in ways):
            return False
        _require_content(beside, target.expected, source, patience)
        _settle(beside)
        beside.replace(path)
        flush_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)
    return True


def _done(way: Way, source: Path, beside: Path) -> bool:
    beside.unlink(missing_ok=True)
    try:
        way(source, beside)
    except FileNotFoundError as no:
        raise Refused(f"{source} is missing", "get the image again from where it came from") from no
    except OSError as no:
        if no.errno not in _CANNOT:
            raise
        return False
    return True


def _require_content(file: Path, expected: Expected, source: Path, patience: Patience) -> None:
    hint = "get it again from where it came from"
    size = file.stat().st_size
    if size != expected.bytes:
        raise Refused(f"{source} has {size} bytes instead of {expected.bytes}", hint)
    content = chunks(FileSource(file=file), 0, expected.bytes)
    if not is_whole(content, expected, lambda _: patience.check()):
        raise Refused(f"{source} is damaged: its checksum differs", hint)


def _settle(file: Path) -> None:
    file.chmod(0o444)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
