"""A folder of this machine, or one that it has mounted."""

from __future__ import annotations

import contextlib
import os
import secrets
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, cast

from vcl_provision.images.repository import layout
from vcl_provision.images.repository.descriptor import Blob
from vcl_provision.images.repository.place import FileSystem, PartialFile, Place
from vcl_provision.images.repository.space import space_of

_ZEROS = bytes(64 << 10)


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
    """Zeros of a block or more become a hole: they take no room and no time of the disk."""

    def append(self, chunk: bytes) -> None:
        holes = [chunk.startswith(_ZEROS, begin) for begin in range(0, len(chunk), len(_ZEROS))]
        if not any(holes):
            super().append(chunk)
            return
        file, begin = self._open(), 0
        for is_hole, blocks in groupby(holes):
            end = min(len(chunk), begin + len(list(blocks)) * len(_ZEROS))
            if is_hole:
                file.flush()
                os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size + end - begin)
            else:
                file.write(chunk[begin:end])
            begin = end

    def finish(self) -> None:
        super().finish()
        path = Path(self._place.full_path(self._path))
        path.chmod(0o444)
        flush_folder(path.parent)

    def _settle(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Names are on the disk once their folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems know no such thing
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
