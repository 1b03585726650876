"""A folder of this machine, or one that it has mounted."""

from __future__ import annotations

import contextlib
import os
import secrets
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, cast

from vcl_provision.images.repository import layout
from vcl_provision.images.repository.descriptor import Blob
from vcl_provision.images.repository.place import FileSystem, PartialFile, Place
from vcl_provision.images.repository.space import space_of

_ZEROS = bytes(64 << 10)

FLUSH = 16 << 20
"""Bytes after which they are flushed, in a thread beside."""


class FolderPlace(Place):
    """Files are flushed before they get their name; contents can only be read then."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), str(folder.absolute()))
        self._folder = folder.absolute()

    @property
    def fs(self) -> FileSystem:
        from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415 - costs `vcl --help` 75 ms

        return cast("FileSystem", LocalFileSystem())

    def create(self, path: str, content: bytes) -> None:
        target = self._folder / path
        with self.errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            try:
                with beside.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                target.hardlink_to(beside)  # unlike a rename it takes nothing away from whoever was faster
            finally:
                beside.unlink(missing_ok=True)
            flush_folder(target.parent)

    def sink(self, path: str, blob: Blob) -> PartialFile:
        return _FlushedFile(self, path, layout.partial_path(blob))

    def free_bytes(self) -> int:
        return space_of(self._folder).free

    def local_path(self, path: str) -> Path:
        return self._folder / path

    def lock_folder(self) -> Path:
        return self._folder / layout.LOCKS


class _FlushedFile(PartialFile):
    """Zeros of a block or more become a hole: they take no room and no time of the disk.

    What is written goes to the disk while more of it comes: all of it in the end would be waited for.
    """

    def __init__(self, place: Place, path: str, partial: str) -> None:
        super().__init__(place, path, partial)
        self._flushing = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._flushed: Future[None] | None = None
        self._unflushed = 0

    def append(self, chunk: memoryview) -> None:
        file = self._open()
        for is_hole, blocks in groupby(range(0, len(chunk), len(_ZEROS)), lambda begin: _is_hole(chunk, begin)):
            begins = list(blocks)
            begin, end = begins[0], min(len(chunk), begins[-1] + len(_ZEROS))
            if is_hole:
                file.flush()
                os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size + end - begin)
            else:
                file.write(chunk[begin:end])
                self._flush_behind(file, end - begin)

    def _flush_behind(self, file: BinaryIO, count: int) -> None:
        self._unflushed += count
        if self._unflushed < FLUSH or not (self._flushed is None or self._flushed.done()):
            return
        if self._flushed:
            self._flushed.result()
        self._unflushed = 0
        self._flushed = self._flushing.submit(os.fdatasync, file.fileno())

    def leave(self) -> None:
        flushed, self._flushed = self._flushed, None
        if flushed:
            wait([flushed])  # before the file is closed
        super().leave()

    def finish(self) -> None:
        super().finish()
        path = Path(self._place.full_path(self._path))
        path.chmod(0o444)
        flush_folder(path.parent)

    def _settle(self, file: BinaryIO) -> None:
        if self._flushed:
            self._flushed.result()  # an error of the disk is told once, to whoever asked it
        file.flush()
        os.fsync(file.fileno())


def _is_hole(chunk: memoryview, begin: int) -> bool:
    """Whether the block that begins there is all zeros; most are told by their first byte."""
    return not chunk[begin] and chunk[begin : begin + len(_ZEROS)].tobytes() == _ZEROS


def flush_folder(folder: Path) -> None:
    """Names are on the disk once their folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems know no such thing
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
