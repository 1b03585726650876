"""Files that are there whole or not at all: written in a folder of their own beside their place, then moved into it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

from vcl_provision.model.faults import Refused


@contextlib.contextmanager
def new_files(target: Path, *, overwrite: bool) -> Generator[Path]:
    """Where to write `target`: under its own name, since some formats keep it, in a folder beside its place.

    All that lies in that folder at the end is flushed and moved beside the target, the target last; on an error nothing
    is. Raises Refused if one of them is there and `overwrite` is not set, or if the folder cannot be written.
    """
    target = target.absolute()  # whoever writes it works in another folder than we
    _check_free([target], overwrite=overwrite)
    with _said_if_full(target), _folder_beside(target) as folder:
        yield folder / target.name
        made = sorted(folder.iterdir(), key=lambda path: path.name == target.name)
        _check_free([target.with_name(path.name) for path in made], overwrite=overwrite)
        for path in made:
            flush(path)
            path.rename(target.with_name(path.name))
        flush(target.parent)


def _check_free(paths: Sequence[Path], *, overwrite: bool) -> None:
    there = [path for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        raise Refused(f"{there[0]} is there already", "name another file, or say that it may be replaced")


def flush(path: Path) -> None:
    """On the disk: a power failure leaves what was there before, or all of the new."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _said_if_full(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as no:
        if no.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise Refused(f"{target} does not fit: its file system is full", "make room there, or write elsewhere") from no


@contextlib.contextmanager
def _folder_beside(target: Path) -> Generator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as no:
        raise Refused(f"{target} cannot be written: {no.strerror}", "check the folder, and who may write there") from no
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
