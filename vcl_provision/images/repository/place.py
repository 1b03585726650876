"""Where a repository lies, seen through one interface: fsspec's file systems, and what they do not promise themselves.

That is: a file that is whole or not there and never takes another's place, a transfer that goes on where it was cut
off, room that is left, errors that say what to do. https://filesystem-spec.readthedocs.io/
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from vcl_provision.images.repository.descriptor import Blob
from vcl_provision.model.faults import Refused, Transient
from vcl_provision.model.space import full

CHUNK = 1 << 20
"""Bytes moved at a time: enough for any file system, little enough to stay in a processor's cache on their way."""

Info = Mapping[str, object]


class FileSystem(Protocol):
    """fsspec's AbstractFileSystem, as far as we use it; paths are the file system's own."""

    def ls(self, path: str, *, detail: bool) -> Sequence[Info]: ...

    def find(self, path: str, *, detail: bool) -> Mapping[str, Info]: ...

    def info(self, path: str) -> Info: ...

    def open(self, path: str, mode: str) -> BinaryIO: ...

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite") -> None: ...

    def makedirs(self, path: str, *, exist_ok: bool) -> None: ...

    def mv(self, path1: str, path2: str) -> None: ...

    def rm_file(self, path: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of a place: its path there, its length, when it was last written, and a stamp that changes with it."""

    path: str
    bytes: int
    changed: datetime
    stamp: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Sink(Protocol):
    """A file being written: it has its name once it is finished, and goes on where an earlier attempt was cut off."""

    def begun(self) -> int:
        """Bytes that are there of an earlier attempt, from the beginning on."""
        ...

    def read_begun(self) -> Iterator[bytes]:
        """Those bytes."""
        ...

    def append(self, chunk: memoryview) -> None:
        """Writes these bytes, or copies them: their room is used for others afterwards."""
        ...

    def finish(self) -> None:
        """Makes it durable and gives it its name."""
        ...

    def leave(self) -> None:
        """Lets go of it; what is there stays for the next attempt."""
        ...

    def discard(self) -> None:
        """Removes what is there."""
        ...


class Place(ABC):
    """A tree of files somewhere. Paths are relative to it; what is not there raises FileNotFoundError.

    Raises Transient for a place that cannot be reached, Refused for one that will not let us or is full.
    """

    lost: tuple[type[Exception], ...] = ()
    """What its client raises, besides OSError, when the place cannot be reached."""

    def __init__(self, url: str, root: str) -> None:
        self.url = url
        self.root = root.rstrip("/")

    def __str__(self) -> str:
        """Its address, without what else there is to know for getting there."""
        return self.url.partition("?")[0]

    @property
    @abstractmethod
    def fs(self) -> FileSystem:
        """The file system, for the calling thread."""

    @abstractmethod
    def create(self, path: str, content: bytes) -> None:
        """Makes a small file, whole or not at all. Raises FileExistsError if there is one: of two, one succeeds."""

    @abstractmethod
    def sink(self, path: str, blob: Blob) -> Sink:
        """Begins to write a file of this content, or goes on with it; to be called by one at a time on a machine."""

    def free_bytes(self) -> int | None:
        """Room for files; None where there is no end to it, or none that we could know."""
        return None

    def local_path(self, path: str) -> Path | None:  # noqa: ARG002 - a folder's needs it
        """Where a file lies on this machine, if it does."""
        return None

    def lock_folder(self) -> Path:
        """Where locks over this place are kept on this machine."""
        return _own_folder() / hashlib.sha256(self.url.encode()).hexdigest()[:32]

    def sweep(self, before: datetime) -> Sequence[str]:  # noqa: ARG002 - a bucket's needs it
        """Ends what only this kind of place keeps of transfers that began before and never ended; says what."""
        return ()

    def close(self) -> None:  # noqa: B027 - most places keep none
        """Lets go of connections."""

    def full_path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def entries(self, folder: str) -> list[Entry]:
        """The files right in a folder; none if there is no such folder."""
        with self.errors():
            try:
                found = self.fs.ls(self.full_path(folder), detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return [self._entry(info) for info in found if info["type"] != "directory"]

    def entries_below(self, folder: str) -> list[Entry]:
        """The files in a folder and its folders."""
        with self.errors():
            try:
                found = self.fs.find(self.full_path(folder), detail=True)
            except FileNotFoundError:
                return []
        return [self._entry(info) for info in found.values() if info["type"] != "directory"]

    def entry(self, path: str) -> Entry | None:
        with self.errors():
            try:
                return self._entry(self.fs.info(self.full_path(path)))
            except FileNotFoundError:
                return None

    def open(self, path: str, offset: int = 0) -> BinaryIO:
        """Opens a file for reading from there on."""
        with self.errors():
            file = self.fs.open(self.full_path(path), "rb")
            file.seek(offset)
            return file

    def read(self, path: str, most: int) -> bytes:
        """The first so many bytes of a file."""
        with self.errors(), self.open(path) as file:
            return file.read(most)

    def write(self, path: str, content: bytes) -> None:
        """Writes a small file anew."""
        with self.errors():
            self.make_folder(path)
            self.fs.pipe_file(self.full_path(path), content)

    def remove(self, path: str) -> None:
        """Removes a file; one that is gone already is fine."""
        with self.errors(), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.full_path(path))

    def make_folder(self, path: str) -> None:
        """Makes the folder that a file is to lie in."""
        with contextlib.suppress(FileExistsError):  # somebody else made it meanwhile
            self.fs.makedirs(self.full_path(path).rpartition("/")[0], exist_ok=True)

    @contextlib.contextmanager
    def errors(self) -> Generator[None]:
        """Says what the errors of its client mean."""
        try:
            yield
        except (FileNotFoundError, FileExistsError, NotADirectoryError):
            raise
        except self.lost as no:
            raise Transient(f"{self} cannot be reached: {_words(no)}") from no
        except OSError as no:
            raise self._explained(no) from no

    def _explained(self, no: OSError) -> Exception:
        if no.errno == errno.ENOSPC:
            return full(str(self), free=self.free_bytes() or 0, needed=None)
        if no.errno in {errno.EACCES, errno.EPERM, errno.EROFS} or isinstance(no, PermissionError):
            return Refused(f"{self} does not let us: {_words(no)}", "look at who may read and write there")
        return Transient(f"{self} cannot be used: {_words(no)}")

    def _entry(self, info: Info) -> Entry:
        changed = _moment(info.get("mtime", info.get("LastModified")))
        size = cast("int", info["size"])
        stamp = f"{size} {changed.timestamp()} {info.get('ino', '')} {info.get('ETag', '')}"
        path = str(info["name"]).removeprefix(f"{self.root}/")
        return Entry(path=path, bytes=size, changed=changed, stamp=stamp)


class PartialFile:
    """A sink where files can be appended to and renamed: `PATH.WHO` in a folder of its own, then its name.

    `WHO` is this machine, so that two that send the same content to one place do not write into one file.
    """

    def __init__(self, place: Place, path: str, partial: str) -> None:
        self._place, self._path, self._partial = place, path, partial
        self._file: BinaryIO | None = None

    def begun(self) -> int:
        entry = self._place.entry(self._partial)
        return entry.bytes if entry else 0

    def read_begun(self) -> Iterator[bytes]:
        with self._place.open(self._partial) as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def append(self, chunk: memoryview) -> None:
        self._open().write(bytes(chunk))

    def finish(self) -> None:
        self._settle(self._open())  # also an empty one has to be there
        self.leave()
        self._place.make_folder(self._path)
        self._place.fs.mv(self._place.full_path(self._partial), self._place.full_path(self._path))

    def leave(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def discard(self) -> None:
        with contextlib.suppress(Exception):  # the place may be full, or away: what matters is that it is removed
            self.leave()
        self._place.remove(self._partial)

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._place.make_folder(self._partial)
            self._file = self._place.fs.open(self._place.full_path(self._partial), "ab")
        return self._file

    def _settle(self, file: BinaryIO) -> None:
        """What there is to do with a file that is written to its end."""


def who() -> str:
    """This machine, in names of files that another one might write as well."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _own_folder() -> Path:
    """Ours alone, although everybody may write beside it. Raises Refused if somebody else made it first."""
    folder = Path(tempfile.gettempdir(), f"vcl-locks-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077 or not folder.is_dir() or folder.is_symlink():
        raise Refused(f"{folder} is not ours alone", "remove it: locks are kept there")
    return folder


def _moment(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else datetime.fromtimestamp(0, UTC)


def _words(no: Exception) -> str:
    return (no.strerror if isinstance(no, OSError) else "") or str(no) or type(no).__name__
