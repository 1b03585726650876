"""Masters: the contents of images on a VM host, read-only, under the disks of all machines loaded from them.

Each is a file in the profile's datastore, named by its SHA-256: there once, however many images have it. It is whole if
it has its length: here because it gets its name then, on another machine because its last byte is written last.
"""

from __future__ import annotations

import contextlib
import os.path
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vcl_provision.drivers import (
    Blob,
    Disk,
    ImageDescriptor,
    Progress,
    Repository,
    Revision,
    Sink,
    Space,
    Step,
    Task,
    VmHost,
    is_held,
    space_of,
)

from .binding import libvirt, numbers
from .connections import found, is_local
from .volumes import MESSAGE, existing_pool, finished, make_empty, pool_at, remove_file, room_for, send, space_in

_LONG = 1 << 30
"""Bytes that take long enough to be told of."""


@dataclass(frozen=True, kw_only=True)
class Master:
    """A revision as it lies, or is to lie, on a VM host: in `folder`, its datastore."""

    descriptor: ImageDescriptor
    repository: Repository
    folder: str

    def path(self, blob: Blob | None) -> str:
        """Where a content is on the VM host; empty for none."""
        return f"{self.folder}/{blob.sha256}" if blob else ""

    @property
    def system_disk(self) -> Disk:
        return self.descriptor.system_disk


def master_of(task: Task, revision: Revision, host: VmHost) -> Master:
    """What the repository says of the revision. Raises Refused if it has no such image, Transient if it is away."""
    repository = task.repository(host.profile)
    descriptor = repository.get(revision.name)
    return Master(descriptor=descriptor, repository=repository, folder=os.path.normpath(host.profile.datastore_path))


def told(task: Task) -> Progress:
    """Says every tenth of a transfer that people may have to wait for."""
    said = 0

    def hear(done: int, total: int) -> None:
        nonlocal said
        tenth = done * 10 // total if total >= _LONG else 0
        if tenth > said:
            said = tenth
            task.say(Step.COPYFROMPARTNER, f"{tenth * 10} %")

    return hear


def gate_of(host: VmHost) -> str:
    """The lock held together by loads that rely on masters, alone by who removes some."""
    return f"masters {host.name}"


def lock_of(host: VmHost, sha256: str) -> str:
    """The lock of whoever writes or removes a content; not per image: two that share one would write at once."""
    return f"master {host.name} {sha256}"


class Datastore(Protocol):
    """Where masters lie."""

    def holds(self, master: Master) -> bool:
        """Is all of it there whole: verified when it came, lengths still right."""
        ...

    def put(self, task: Task, host: VmHost, master: Master) -> None:
        """Brings and verifies what is missing. Raises Refused for a damaged repository, a full disk."""
        ...


class LocalDatastore:
    """On this machine: blocks or files shared with the repository where that can be, so O(1) but for the sums."""

    def holds(self, master: Master) -> bool:
        return is_held(Path(master.folder), master.descriptor)

    def put(self, task: Task, host: VmHost, master: Master) -> None:
        folder, repository, descriptor = Path(master.folder), master.repository, master.descriptor
        with _room(task, host, master, lambda: repository.room_for(descriptor, folder), lambda: space_of(folder)):
            kept = host.profile.keep_free_mb
            repository.fetch(
                descriptor, folder, patience=task.patience, progress=told(task), keep_free_mb=kept
            )


class RemoteDatastore:
    """On another machine: through libvirt's storage streams."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection = connection

    def holds(self, master: Master) -> bool:
        pool = existing_pool(self._connection, master.folder)
        return pool is not None and all(length_of(pool, blob) == blob.bytes for blob in master.descriptor.blobs)

    def put(self, task: Task, host: VmHost, master: Master) -> None:
        pool, blobs = pool_at(self._connection, master.folder), master.descriptor.blobs
        with _room(
            task,
            host,
            master,
            lambda: sum(max(0, blob.bytes - max(0, length_of(pool, blob))) for blob in blobs),
            lambda: space_in(pool),
        ):
            for blob in blobs:
                self._bring(task, host, master, pool, blob)

    def _bring(self, task: Task, host: VmHost, master: Master, pool: libvirt.virStoragePool, blob: Blob) -> None:
        with task.locks.hold(lock_of(host, blob.sha256), patience=task.patience):
            if length_of(pool, blob) != blob.bytes:  # not brought by somebody else meanwhile
                sink = VolumeSink(self._connection, pool, blob)
                with room_for(pool, blob.bytes):
                    master.repository.send(blob, sink, patience=task.patience, progress=told(task))


@contextlib.contextmanager
def _room(
    task: Task, host: VmHost, master: Master, needed: Callable[[], int], measure: Callable[[], Space]
) -> Generator[None]:
    """One fetches an image to a host, with room for it; who comes after finds it there, and needs none."""
    with (
        task.locks.hold(f"master {host.name} {master.descriptor.name}", patience=task.patience),
        task.room.for_masters(host, needed, measure, patience=task.patience),
    ):
        yield


@contextlib.contextmanager
def datastore_of(
    host: VmHost, connected: Callable[[VmHost], AbstractContextManager[libvirt.virConnect]]
) -> Generator[Datastore]:
    """The one of a VM host; `connected` is asked only where files are another machine's."""
    if is_local(host.address):
        yield LocalDatastore()
        return
    with connected(host) as connection:
        yield RemoteDatastore(connection)


@contextlib.contextmanager
def kept_there(task: Task, host: VmHost, master: Master, datastore: Datastore) -> Generator[None]:
    """All of it is there, and stays until the work inside has made what shows that it is needed."""
    while True:
        with task.locks.together(gate_of(host), patience=task.patience):
            if datastore.holds(master):
                yield
                return
        datastore.put(task, host, master)  # it was removed since it was brought


class VolumeSink(Sink):
    """A file on another machine: its length is what is there of it, and its last byte says that all was verified."""

    def __init__(self, connection: libvirt.virConnect, pool: libvirt.virStoragePool, blob: Blob) -> None:
        self._connection, self._pool, self._blob = connection, pool, blob
        self._stream: libvirt.virStream | None = None
        self._sent = 0
        self._held = b""

    def begun(self) -> int:
        self._sent = max(0, length_of(self._pool, self._blob))
        return self._sent

    def read_begun(self) -> Iterator[bytes]:
        stream = self._connection.newStream()
        self._volume().download(stream, 0, self._sent)
        with finished(stream):
            while chunk := stream.recv(MESSAGE):
                yield chunk

    def append(self, chunk: memoryview) -> None:
        if self._sent + len(chunk) == self._blob.bytes:
            chunk, self._held = chunk[:-1], bytes(chunk[-1:])
        if self._stream is None:
            self._stream = self._connection.newStream()
            self._volume().upload(self._stream, self._sent, 0)
        send(self._stream, chunk)
        self._sent += len(chunk)

    def finish(self) -> None:
        self.leave()
        volume = self._volume()
        if self._held:
            stream = self._connection.newStream()
            volume.upload(stream, self._sent, 0)
            with finished(stream):
                send(stream, self._held)

    def leave(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.finish()

    def discard(self) -> None:
        if self._stream is not None:
            self._stream.abort()
            self._stream = None
        remove_file(self._pool, self._blob.sha256)
        self._sent, self._held = 0, b""

    def _volume(self) -> libvirt.virStorageVol:
        volume = _volume(self._pool, self._blob)
        return volume or make_empty(self._pool, self._blob.sha256)


def length_of(pool: libvirt.virStoragePool, blob: Blob) -> int:
    """Bytes that are there of a content; -1 if there is nothing of it."""
    volume = _volume(pool, blob)
    return numbers(volume.infoFlags(libvirt.VIR_STORAGE_VOL_GET_PHYSICAL))[2] if volume else -1


def _volume(pool: libvirt.virStoragePool, blob: Blob) -> libvirt.virStorageVol | None:
    return found(lambda: pool.storageVolLookupByName(blob.sha256), libvirt.VIR_ERR_NO_STORAGE_VOL)
