"""Making an image of a machine: its disk flattened straight into the repository, beside its place, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from vcl_provision.drivers import (
    CommandFailed,
    ImageFile,
    Refused,
    Revision,
    Role,
    Task,
    describe_file,
    read_manifest,
    write_manifest,
)

from .binding import libvirt, numbers
from .machine import disk_of, mark_of
from .masters import disk_file
from .volumes import CHUNK, finished, full

_PARTIAL = ".partial"
DISK, _FETCHED = "disk.qcow2", "overlay.qcow2"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A machine's disk: `overlay` its path on the VM host, `size` in bytes, resting on the disk of the image in `base`.

    `volume` if it has to be fetched from another machine first.
    """

    base: Path
    overlay: str
    size: int
    volume: libvirt.virStorageVol | None


def partial_of(target: Path) -> Path:
    """Where an image is made before it is one."""
    return target.with_name(f".{target.name}{_PARTIAL}")


def discard(path: Path) -> None:
    """Removes what a capture that did not end has left; anything else keeps."""
    if path.name.startswith(".") and path.name.endswith(_PARTIAL):
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def new_image(target: Path, needed: int) -> Generator[Path]:
    """A folder that is the image once the work inside has ended, or else gone. Raises Refused if there is no room."""
    if target.exists():
        raise Refused(f"{target} is there already", "a revision is made once: capture into a new one")
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise full(str(target.parent), free=free, needed=needed)
    partial = partial_of(target)
    discard(partial)
    try:
        partial.mkdir()
        yield partial
        _flush(partial)
        partial.rename(target)
    finally:
        discard(partial)


def flatten(task: Task, overlay: str, target: Path, compression: str) -> None:
    """Writes a disk that stands alone: one pass over what the machine sees of its own disk and the master beneath."""
    options = ["-c", "-o", f"compression_type={compression}"] if compression else []
    try:
        task.run(["qemu-img", "convert", "-O", "qcow2", *options, overlay, str(target)])
    except CommandFailed as error:
        if "No space left on device" not in error.ran.stderr:
            raise
        needed = Path(overlay).stat().st_size
        raise full(str(target.parent), free=shutil.disk_usage(target.parent).free, needed=needed) from error


def source_of(domain: libvirt.virDomain, repository: Path, *, fetch: bool) -> Source:
    """What to capture. `fetch`: the disk is another machine's file. Raises Refused for a machine not loaded by us."""
    mark = mark_of(domain)
    if mark is None:
        raise Refused(f"{domain.name()} carries no mark of what was loaded", "load it again")
    path = disk_of(domain.XMLDesc()).path
    volume = domain.connect().storageVolLookupByPath(path)
    size = numbers(volume.info())[2]
    return Source(base=repository / mark.revision, overlay=path, size=size, volume=volume if fetch else None)


def capture(task: Task, source: Source, repository: Path, revision: Revision, compression: str) -> None:
    """Makes `repository/REVISION` of a machine that is off: its disk flattened, the rest as its image has it."""
    base = read_manifest(source.base)
    with new_image(repository / revision.name, base.size_bytes + source.size) as folder:
        overlay = source.overlay if source.volume is None else _fetched(task, source, source.volume, folder)
        flatten(task, overlay, folder / DISK, compression)
        (folder / _FETCHED).unlink(missing_ok=True)
        files = [_carry(source.base, folder, file) for file in base.files]
        write_manifest(folder, replace(base, name=revision.name, files=files, recipe=""))


def _fetched(task: Task, source: Source, volume: libvirt.virStorageVol, folder: Path) -> str:
    """Brings a disk from another VM host: what differs from its master travels, and rests on the repository's copy."""
    target = folder / _FETCHED
    _download(task, volume, target)
    disk = disk_file(read_manifest(source.base))
    beneath = ["-b", str(source.base / disk.name), "-F", disk.format]
    task.run(["qemu-img", "rebase", "-u", *beneath, str(target)])
    return str(target)


def _download(task: Task, volume: libvirt.virStorageVol, target: Path) -> None:
    stream = volume.connect().newStream()
    volume.download(stream, 0, 0)
    with finished(stream), target.open("wb") as file:
        while chunk := stream.recv(CHUNK):
            task.patience.check()
            file.write(chunk)


def _carry(base: Path, folder: Path, file: ImageFile) -> ImageFile:
    if file.role is Role.DISK:
        return describe_file(folder / DISK, Role.DISK, "qcow2")
    try:
        (folder / file.name).hardlink_to(base / file.name)
    except OSError:
        shutil.copyfile(base / file.name, folder / file.name)
    return file


def _flush(folder: Path) -> None:
    """On the disk before it has its name: a power failure leaves a whole image or none."""
    for path in (*folder.iterdir(), folder):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
