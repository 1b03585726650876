"""What transfers to a folder of this machine left when they were cut off, and nobody goes on with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from vcl_provision.images.repository import layout
from vcl_provision.images.repository.folder import FolderPlace
from vcl_provision.images.repository.locks import at_once, is_held


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A file of a transfer that did not end: of which content, what it takes in bytes, since when nobody wrote to it.

    `busy`: somebody is at this content now.
    """

    sha256: str
    bytes: int
    changed: datetime
    busy: bool = False


def leftovers(folder: Path) -> list[Leftover]:
    """Those in a folder that `Repository.fetch` brings contents to."""
    seen = [(path, _seen(path)) for path in _files(folder)]
    return [replace(found, busy=is_held(_lock(folder, path))) for path, found in seen if found is not None]


def remove_leftovers(folder: Path, before: datetime) -> list[Leftover]:
    """Removes those that nobody wrote to since and nobody is at (a line may stall for long); returns them."""
    gone: list[Leftover] = []
    for path in _files(folder):
        with at_once(_lock(folder, path)) as mine:
            found = _seen(path) if mine else None
            if found is not None and found.changed < before:
                path.unlink(missing_ok=True)
                gone.append(found)
    return gone


def _files(folder: Path) -> Iterator[Path]:
    there = folder / layout.PARTIAL
    return iter(sorted(path for path in there.iterdir() if path.is_file()) if there.is_dir() else [])


def _lock(folder: Path, path: Path) -> Path:
    """Whoever brings a content holds it (transfer.put)."""
    return FolderPlace(folder).lock_folder() / layout.lock_name(_content(path))


def _content(path: Path) -> str:
    """Names are CONTENT.MACHINE, and more (layout.partial_path)."""
    return path.name.partition(".")[0]


def _seen(path: Path) -> Leftover | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    changed = datetime.fromtimestamp(max(stat.st_mtime, stat.st_ctime), UTC)
    return Leftover(sha256=_content(path), bytes=stat.st_blocks * 512, changed=changed)
