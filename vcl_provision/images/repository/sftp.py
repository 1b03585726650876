"""A folder of another machine, over sftp: another management node's repository."""

from __future__ import annotations

import contextlib
import secrets
import threading
from pathlib import PurePosixPath
from typing import Any, cast

from fsspec.implementations.sftp import SFTPFileSystem

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.sftp import LOST, Sftp, SftpServer, connect_sftp, free_bytes, open_sftp
from vcl_provision.channels.sftp_reading import ReadAhead, largest_read
from vcl_provision.channels.transport import Connection
from vcl_provision.images.repository import layout
from vcl_provision.images.repository.descriptor import Blob
from vcl_provision.images.repository.place import CHUNK, FileSystem, PartialFile, Place
from vcl_provision.model.faults import Transient
from vcl_provision.model.space import full

CONNECTS = 60.0
"""Seconds that a connection may take to come up."""


class SftpPlace(Place):
    """A session for each thread that uses it, over one connection as long as the server allows, then over one more.

    What arrives is what was sent: ssh checks every packet. A server's disk is not flushed by us.
    """

    lost = LOST

    def __init__(self, url: str, server: SftpServer, root: str) -> None:
        super().__init__(url, root)
        self._server = server
        self._connections: list[Connection] = []
        self._dialling = threading.Lock()
        self._own = threading.local()

    @property
    def fs(self) -> FileSystem:
        connection: Connection | None = getattr(self._own, "connection", None)
        if connection is None or not connection.alive:
            self._own.connection, session = self._session()
            self._own.fs = _Sftp(session)
        return cast("FileSystem", self._own.fs)

    def create(self, path: str, content: bytes) -> None:
        target = self.full_path(path)
        folder, _, name = target.rpartition("/")
        beside = f"{folder}/.{name}.{secrets.token_hex(4)}"
        with self.errors():
            self.make_folder(path)
            self.fs.pipe_file(beside, content)
            try:
                self._sftp.rename(beside, target)
            except OSError as no:
                if self.entry(path):
                    raise FileExistsError(target) from no
                raise
            finally:
                with contextlib.suppress(FileNotFoundError):
                    self.fs.rm_file(beside)

    def sink(self, path: str, blob: Blob) -> PartialFile:
        return PartialFile(self, path, layout.partial_path(blob))

    def free_bytes(self) -> int | None:
        with self.errors():
            self.make_folder("here")
            return free_bytes(self._sftp, self.root)

    def _explained(self, no: OSError) -> Exception:
        """A server says `Failure` for all that has no number of its own, a full disk among it."""
        with contextlib.suppress(Exception):
            free = free_bytes(self._sftp, self.root) if no.errno is None else None
            if free is not None and free < CHUNK:
                return full(str(self), free=free, needed=None)
        return super()._explained(no)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    @property
    def _sftp(self) -> Sftp:
        return cast("Any", self.fs).ftp

    def _session(self) -> tuple[Connection, Sftp]:
        """An sshd refuses the eleventh session over a connection; a thread that ends gives its one back."""
        with self._dialling:
            self._connections = [connection for connection in self._connections if connection.alive]
            for connection in self._connections:
                with contextlib.suppress(Transient):
                    return connection, open_sftp(connection)
            self._connections.append(connect_sftp(self._server, Patience(CONNECTS)))
            return self._connections[-1], open_sftp(self._connections[-1])


class _Sftp(SFTPFileSystem):
    """fsspec's, over a session of ours: it would dial by itself, and trust any host key that it has not seen before."""

    cachable = False

    def __init__(self, session: Sftp) -> None:
        self.ftp: Any = session
        self._largest = largest_read(session)
        super().__init__("")  # pyright: ignore[reportUnknownMemberType] - untyped

    def _connect(self) -> None:
        """The session was handed in."""

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: object) -> Any:  # noqa: ARG002 - fsspec's signature
        """Reads ahead, writes without waiting for each answer: otherwise every 32 KiB cost a journey there and back."""
        if mode == "rb":
            return ReadAhead(self.ftp, path, self._largest)
        file = self.ftp.open(path, mode)
        file.set_pipelined(True)
        return file

    def makedirs(self, path: str, exist_ok: bool = False, mode: int = 0o777) -> None:  # noqa: ARG002, FBT001, FBT002 - fsspec's signature
        """Somebody else who makes them just now is no error; the server does not say what its failures mean."""
        for folder in (*reversed(PurePosixPath(path).parents), PurePosixPath(path)):
            with contextlib.suppress(OSError):
                self.ftp.mkdir(str(folder), mode)
        self.ftp.stat(path)

    def _rm(self, path: str) -> None:
        self.ftp.remove(path)
