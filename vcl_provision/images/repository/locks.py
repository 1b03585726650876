"""Locks among threads and processes of a machine, which the kernel takes back however their holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import IO

from vcl_provision.channels.patience import Patience


@contextlib.contextmanager
def alone(path: Path, what: str, patience: Patience) -> Generator[None]:
    """Held by one at a time; `what` completes "waited N s for ...". Its file is gone when nobody holds it.

    Raises TimedOut, Cancelled.
    """
    file = _locked(path, fcntl.LOCK_EX, what, patience)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # who waits with it open sees that it is gone, and asks for the new one
        file.close()


@contextlib.contextmanager
def at_once(path: Path) -> Generator[bool]:
    """As `alone`, but nobody is waited for: false inside if somebody else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _try(path, fcntl.LOCK_EX)
    try:
        yield file is not None
    finally:
        if file is not None:
            path.unlink(missing_ok=True)
            file.close()


def is_held(path: Path) -> bool:
    """Whether somebody holds it now, alone or together."""
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def together(path: Path, what: str, patience: Patience) -> Generator[None]:
    """Held by any number at a time, while nobody holds it alone."""
    with _locked(path, fcntl.LOCK_SH, what, patience):
        yield


def _locked(path: Path, kind: int, what: str, patience: Patience) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return patience.until(lambda: _try(path, kind), what, every=0.05)


def _try(path: Path, kind: int) -> IO[str] | None:
    file = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None
