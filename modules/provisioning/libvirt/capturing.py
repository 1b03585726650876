"""Making an image of a machine: what it wrote on its disks flattened into new contents, the others shared with its own.

The disks are written into a scratch folder first; from there they come into the repository, and only then there is a
descriptor that names them: a capture that ends anywhere before leaves no image.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from vcl_provision.drivers import (
    Blob,
    CommandFailed,
    Disk,
    DiskFormat,
    DiskRole,
    ImageDescriptor,
    Refused,
    Repository,
    Revision,
    Task,
    blob_of,
    full,
)

from .binding import libvirt, numbers
from .machine import disks_of, mark_of
from .making import system_first
from .volumes import MESSAGE, finished

_SCRATCH = "capture-"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A disk of a machine: `overlay` its path on the VM host, `size` in bytes, resting on the content of `disk`.

    `volume` if it has to be fetched from another machine first.
    """

    disk: Disk
    overlay: str
    size: int
    volume: libvirt.virStorageVol | None


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A machine, as it is to be captured: what it was loaded from, and what it wrote since."""

    base: ImageDescriptor
    sources: list[Source]

    @property
    def needed(self) -> int:
        """Bytes that its disks may take, flattened."""
        return sum(source.size + source.disk.blob.bytes for source in self.sources)


def scratch_of(repository: Repository, revision: Revision) -> Path:
    """Where disks are written before there is an image."""
    return repository.scratch_folder() / f"{_SCRATCH}{revision.name}"


def discard(path: Path) -> None:
    """Removes what a capture that did not end has left; anything else stays."""
    if path.name.startswith(_SCRATCH):
        shutil.rmtree(path, ignore_errors=True)


def captured(domain: libvirt.virDomain, repository: Repository, *, fetch: bool) -> Captured:
    """What to capture. `fetch`: its disks are another machine's files. Raises Refused if we did not load it."""
    mark = mark_of(domain)
    if mark is None:
        raise Refused(f"{domain.name()} carries no mark of what was loaded", "load it again")
    base = repository.get(mark.revision)
    written = [disk for disk in system_first(base) if disk.role is not DiskRole.APPLICATION]
    files = [disk.path for disk in disks_of(domain.XMLDesc())]
    if len(files) != len(written):
        said = f"{domain.name()} writes to {len(files)} disks, and {base.name} has {len(written)} to be written to"
        raise Refused(said, "take the disks away that were added by hand")
    sources: list[Source] = []
    for disk, path in zip(written, files, strict=True):
        volume = domain.connect().storageVolLookupByPath(path)
        size = numbers(volume.info())[2]
        sources.append(Source(disk=disk, overlay=path, size=size, volume=volume if fetch else None))
    return Captured(base=base, sources=sources)


def capture(task: Task, machine: Captured, repository: Repository, revision: Revision, compression: str) -> None:
    """Adds the revision to the repository, of a machine that is off. Raises Refused if it is there, or no room is."""
    if repository.has(revision.name):
        raise Refused(f"{repository} has a revision {revision.name} already", "capture into a new one")
    base, files, disks = machine.base, dict[str, Path](), dict[str, Disk]()
    with _scratch(scratch_of(repository, revision), machine.needed) as folder:
        for source in machine.sources:
            file = folder / f"{source.disk.name}.qcow2"
            overlay = _fetched(task, source, source.volume, repository, folder) if source.volume else source.overlay
            _flatten(task, overlay, file, compression)
            blob = blob_of(file)
            files[blob.sha256] = file
            disks[source.disk.name] = replace(source.disk, format=DiskFormat.QCOW2, blob=blob)
        descriptor = replace(
            base,
            name=revision.name,
            image=revision.image,
            revision=revision.revision,
            disks=[disks.get(disk.name, disk) for disk in base.disks],
            parent=base.name,
            origin=task.computer.name,
            captured_at=datetime.now(UTC).replace(microsecond=0),
            recipe="",
        )
        repository.take_in(descriptor, files, patience=task.patience)


@contextlib.contextmanager
def _scratch(folder: Path, needed: int) -> Generator[Path]:
    """Gone when the work inside has ended, however it does. Raises Refused if there is no room."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise full(str(folder.parent), free=free, needed=needed)
    discard(folder)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        discard(folder)


def _flatten(task: Task, overlay: str, target: Path, compression: str) -> None:
    """Writes a disk that stands alone: one pass over what the machine sees of its own disk and the master beneath.

    Snapshots that the machine has, with the memory of the moment, stay behind: an image is a machine that is off.
    """
    options = ["-c", "-o", f"compression_type={compression}"] if compression else []
    try:
        task.run(["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", *options, overlay, str(target)])
    except CommandFailed as error:
        if "No space left on device" not in error.ran.stderr:
            raise
        needed = Path(overlay).stat().st_size
        raise full(str(target.parent), free=shutil.disk_usage(target.parent).free, needed=needed) from error


def _fetched(task: Task, source: Source, volume: libvirt.virStorageVol, repository: Repository, folder: Path) -> str:
    """Brings a disk from another VM host: what differs from its master travels, and rests on the repository's copy."""
    target = folder / f"{source.disk.name}.overlay"
    _download(task, volume, target)
    beneath = ["-b", str(_beneath(task, source.disk.blob, repository, folder)), "-F", str(source.disk.format)]
    task.run(["qemu-img", "rebase", "-u", "-f", "qcow2", *beneath, str(target)])
    return str(target)


def _beneath(task: Task, blob: Blob, repository: Repository, folder: Path) -> Path:
    """A file of this machine with the content that the disk rests on."""
    there = repository.path_of(blob)
    if there is not None:
        return there
    repository.fetch_one(blob, folder, patience=task.patience)
    return folder / blob.sha256


def _download(task: Task, volume: libvirt.virStorageVol, target: Path) -> None:
    stream = volume.connect().newStream()
    volume.download(stream, 0, 0)
    with finished(stream), target.open("wb") as file:
        while chunk := stream.recv(MESSAGE):
            task.patience.check()
            file.write(chunk)
