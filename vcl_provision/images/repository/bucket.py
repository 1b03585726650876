"""A bucket of an object store that speaks S3's protocol."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import s3fs
from botocore.exceptions import BotoCoreError

from vcl_provision.images.repository import layout
from vcl_provision.images.repository.descriptor import Blob
from vcl_provision.images.repository.place import CHUNK, FileSystem, Place

PIECE = 32 << 20
"""Bytes sent at a time, and lost at most when a transfer is cut off; S3 takes no part below 5 MiB but the last."""

MOST_PIECES = 9_000
"""S3 puts no more than 10 000 together."""

READ_AHEAD = 16 << 20


class BucketPlace(Place):
    """Objects come to be whole or not at all by themselves. The client sends a checksum with each, the store compares.

    Credentials are found as all of AWS's tools find theirs: the environment, `~/.aws`, the machine's role. `profile`
    names one of several in there. What is there already is refused by a conditional write (`If-None-Match`), which a
    store has to know; AWS's, MinIO's and Ceph's do.
    """

    lost = (BotoCoreError,)

    def __init__(self, url: str, root: str, *, endpoint: str = "", profile: str = "") -> None:
        super().__init__(url, root)
        self._client: Any = s3fs.S3FileSystem(
            endpoint_url=endpoint or None,
            profile=profile or None,
            use_listings_cache=False,  # another node's work is to be seen
            default_block_size=READ_AHEAD,
            default_cache_type="readahead",
            config_kwargs={"connect_timeout": 10, "retries": {"max_attempts": 3}},
        )

    @property
    def fs(self) -> FileSystem:
        return self._client

    def make_folder(self, path: str) -> None:
        """An object store has none."""

    def create(self, path: str, content: bytes) -> None:
        with self.errors():
            self.fs.pipe_file(self.full_path(path), content, mode="create")

    def sink(self, path: str, blob: Blob) -> Pieces:
        return Pieces(self, path, blob)

    def join(self, pieces: Sequence[str], path: str) -> None:
        """Makes one object of several, without sending them again."""
        with self.errors():
            self._client.merge(self.full_path(path), [self.full_path(piece) for piece in pieces])

    def sweep(self, before: datetime) -> Sequence[str]:
        """A joining that was cut off costs room that no listing shows."""
        bucket, _, prefix = self.root.partition("/")
        said: list[str] = []
        with self.errors():
            for upload in cast("Sequence[Mapping[str, Any]]", self._client.list_multipart_uploads(bucket)):
                key = str(upload["Key"])
                if key.startswith(prefix) and upload["Initiated"] < before:
                    ids = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}
                    self._client.call_s3("abort_multipart_upload", **ids)
                    said.append(f"upload of {key}")
        return said


class Pieces:
    """A sink of objects that can only be written whole: pieces of an equal length, joined by the store in the end."""

    def __init__(self, place: BucketPlace, path: str, blob: Blob) -> None:
        self._place, self._path = place, path
        self._folder = layout.partial_path(blob)
        self._size = max(PIECE, -(-blob.bytes // MOST_PIECES))
        self._sent: list[str] = []
        self._rest = bytearray()

    def begun(self) -> int:
        there = {entry.path for entry in self._place.entries(self._folder) if entry.bytes == self._size}
        while (path := self._piece()) in there:
            self._sent.append(path)
        return len(self._sent) * self._size

    def read_begun(self) -> Iterator[bytes]:
        for path in self._sent:
            with self._place.open(path) as file:
                while chunk := file.read(CHUNK):
                    yield chunk

    def append(self, chunk: memoryview) -> None:
        self._rest += chunk
        while len(self._rest) >= self._size:
            self._send(bytes(self._rest[: self._size]))
            del self._rest[: self._size]

    def finish(self) -> None:
        if not self._sent:
            self._place.write(self._path, bytes(self._rest))
            return
        if self._rest:
            self._send(bytes(self._rest))
        self._place.join(self._sent, self._path)
        self.discard()

    def leave(self) -> None:
        self._rest.clear()

    def discard(self) -> None:
        self._rest.clear()
        for entry in self._place.entries(self._folder):
            with contextlib.suppress(FileNotFoundError):
                self._place.remove(entry.path)
        self._sent.clear()

    def _piece(self) -> str:
        return f"{self._folder}/{len(self._sent):05}"

    def _send(self, content: bytes) -> None:
        path = self._piece()
        self._place.write(path, content)
        self._sent.append(path)
