"""Masters: read-only copies of images on a VM host, under the disks of all machines loaded from them.

A master is a folder `REVISION.CONTENT` under the profile's datastore path, made like the image's in the repository.
Named for its content it is never changed, only there or not; `image.json` comes last, after every byte was verified.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vcl_provision.drivers import (
    ImageFile,
    ImageManifest,
    Patience,
    Refused,
    Revision,
    Role,
    VmHost,
    read_manifest,
    verify_image,
)

from .binding import libvirt, numbers
from .connections import found
from .volumes import existing_pool, finished, full, gone_if_unfinished, make_empty, pool_at, remove_file, room_for, send

MANIFEST = "image.json"
_CHUNK = 1 << 20
_FICLONE = 0x40049409  # ioctl_ficlone(2)


@dataclass(frozen=True, kw_only=True)
class Master:
    """A revision as it lies, or is to lie, on a VM host."""

    manifest: ImageManifest
    source: Path
    folder: str

    def path(self, role: Role) -> str:
        """Where a file is on the VM host; empty if the image has none for this role."""
        file = self.manifest.file(role)
        return f"{self.folder}/{file.name}" if file else ""

    @property
    def disk_format(self) -> str:
        """QEMU's word for the format of its disk."""
        return disk_file(self.manifest).format


def disk_file(manifest: ImageManifest) -> ImageFile:
    """Its system disk; a manifest without one is not read as one."""
    return next(file for file in manifest.files if file.role is Role.DISK)


def master_of(revision: Revision, host: VmHost) -> Master:
    """What the repository says of the revision. Raises Refused if it has no such image."""
    source = Path(host.profile.repository_path, revision.name)
    manifest = read_manifest(source)
    content = hashlib.sha256((source / MANIFEST).read_bytes()).hexdigest()[:12]
    folder = os.path.normpath(f"{host.profile.datastore_path}/{revision.name}.{content}")
    return Master(manifest=manifest, source=source, folder=folder)


class Datastore(Protocol):
    """Where masters lie."""

    def holds(self, master: Master) -> bool:
        """Is it there whole: verified once, sizes still right."""
        ...

    def put(self, master: Master, patience: Patience) -> None:
        """Copies and verifies it, under the master's lock. Raises Refused for a damaged source, a full disk."""
        ...


class LocalDatastore:
    """On this machine: a reflink or a hard link where the file system can, so O(1) but for the one verification."""

    def holds(self, master: Master) -> bool:
        folder = Path(master.folder)
        try:
            if (folder / MANIFEST).read_bytes() != (master.source / MANIFEST).read_bytes():
                return False
            return all((folder / file.name).stat().st_size == file.bytes for file in master.manifest.files)
        except FileNotFoundError:
            return False

    def put(self, master: Master, patience: Patience) -> None:
        folder = Path(master.folder)
        beside = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            beside.mkdir(parents=True)
            for name in (*(file.name for file in master.manifest.files), MANIFEST):
                patience.check()
                _put_file(master.source / name, beside / name)
            verify_image(beside)
            _make_place(folder)
            beside.rename(folder)
        except OSError as error:
            raise _full_or(error, folder.parent, master.manifest.size_bytes) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)


class RemoteDatastore:
    """On another machine: through libvirt's storage streams, the sum taken over the bytes that are sent."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection = connection

    def holds(self, master: Master) -> bool:
        pool = existing_pool(self._connection, master.folder)
        volume = _volume(pool, MANIFEST) if pool else None
        if pool is None or volume is None:
            return False
        if _receive(self._connection, volume) != (master.source / MANIFEST).read_bytes():
            return False
        return all(_size(pool, file.name) == file.bytes for file in master.manifest.files)

    def put(self, master: Master, patience: Patience) -> None:
        pool = pool_at(self._connection, master.folder)
        remove_file(pool, MANIFEST)
        for file in master.manifest.files:
            self._send(pool, master.source / file.name, file.sha256, patience)
        self._send(pool, master.source / MANIFEST, "", patience)

    def _send(self, pool: libvirt.virStoragePool, source: Path, sha256: str, patience: Patience) -> None:
        remove_file(pool, source.name)
        size = source.stat().st_size
        with room_for(pool, size), gone_if_unfinished(pool, source.name), source.open("rb") as file:
            volume = make_empty(pool, source.name, size)
            stream = self._connection.newStream()
            volume.upload(stream, 0, size)
            sent = hashlib.sha256()
            with finished(stream):
                while chunk := file.read(_CHUNK):
                    patience.check()
                    sent.update(chunk)
                    send(stream, chunk)
                if sha256 not in {"", sent.hexdigest()}:
                    raise Refused(f"{source} is damaged: its checksum differs", "build or retrieve the image again")


def _put_file(source: Path, target: Path) -> None:
    """The first way that works: blocks shared (btrfs, xfs), the file shared (the same file system), copied."""
    for way in (_reflink, _link, _copy):
        target.unlink(missing_ok=True)
        try:
            way(source, target)
        except OSError as error:
            if way is _copy or isinstance(error, FileNotFoundError):
                raise
        else:
            break
    target.chmod(0o444)


def _reflink(source: Path, target: Path) -> None:
    with source.open("rb") as have, target.open("wb") as want:
        fcntl.ioctl(want.fileno(), _FICLONE, have.fileno())


def _link(source: Path, target: Path) -> None:
    target.hardlink_to(source)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as have, target.open("wb") as want:
        shutil.copyfileobj(have, want, _CHUNK)
        os.fsync(want.fileno())


def _make_place(folder: Path) -> None:
    """What has the master's name and is not whole makes room; machines that run on it keep their open files."""
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.partial.old")
        folder.rename(aside)
        shutil.rmtree(aside)


def _full_or(error: OSError, path: Path, needed: int) -> Exception:
    if error.errno != errno.ENOSPC:
        return Refused(f"{path} cannot be written: {error}", "look at the datastore path of the VM profile")
    return full(str(path), free=shutil.disk_usage(path).free, needed=needed)


def _volume(pool: libvirt.virStoragePool, name: str) -> libvirt.virStorageVol | None:
    return found(lambda: pool.storageVolLookupByName(name), libvirt.VIR_ERR_NO_STORAGE_VOL)


def _size(pool: libvirt.virStoragePool, name: str) -> int:
    volume = _volume(pool, name)
    return numbers(volume.infoFlags(libvirt.VIR_STORAGE_VOL_GET_PHYSICAL))[2] if volume else -1


def _receive(connection: libvirt.virConnect, volume: libvirt.virStorageVol) -> bytes:
    stream = connection.newStream()
    volume.download(stream, 0, 0)
    content = bytearray()
    with finished(stream):
        while chunk := stream.recv(_CHUNK):
            content += chunk
    return bytes(content)
