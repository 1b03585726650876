"""Room on disks of this machine: asked for before it is used, so that a disk is never filled to its end."""

from __future__ import annotations

import shutil
from pathlib import Path

from vcl_provision.model.space import Space


def space_of(path: Path) -> Space:
    """The disk that a folder is on, or will be: it need not be there yet."""
    usage = shutil.disk_usage(_existing(path))
    return Space(path=str(path), total=usage.total, free=usage.free)


def same_disk(one: Path, other: Path) -> bool:
    """Whether a file of one folder can have a name in the other: it takes no more room then."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())
