"""Room on disks: asked for before it is used, so that a disk is never filled to its end."""

from __future__ import annotations

import shutil
from pathlib import Path

from vcl_provision.model.faults import Refused

SHARE, MOST = 0.02, 1 << 30
"""What stays free: so large a part of the disk, but no more than so many bytes."""


def require_room(path: Path, needed: int) -> None:
    """Raises Refused, naming path, free and needed bytes, if a folder's disk would be full with so many bytes more."""
    usage = shutil.disk_usage(_existing(path))
    kept = min(MOST, int(usage.total * SHARE))
    if needed and usage.free < needed + kept:
        raise full(str(path), free=usage.free, needed=needed, kept=kept)


def free_bytes(path: Path) -> int:
    """Room for files in a folder, which need not be there yet."""
    return shutil.disk_usage(_existing(path)).free


def full(path: str, *, free: int, needed: int | None, kept: int = 0) -> Refused:
    """The error for a disk without room; `kept` bytes are to stay free."""
    wanted = "" if needed is None else f", {needed} are needed"
    beside = f" and {kept} stay free" if kept else ""
    hint = "make room there (vcl images gc removes what nothing needs), or move the folder to a larger disk"
    return Refused(f"{path} is full: {free} bytes are free{wanted}{beside}", hint)


def same_disk(one: Path, other: Path) -> bool:
    """Whether a file of one folder can have a name in the other: it takes no more room then."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())
