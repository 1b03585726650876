"""Images of a repository from and to what other hypervisors read: packages (OVA, OVF) and single disks."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.formats.disks import convert, standalone
from vcl_provision.images.formats.exporting import SourceDisk, export_ova, export_ovf
from vcl_provision.images.formats.guest_os import guest_os
from vcl_provision.images.formats.importing import import_package
from vcl_provision.images.formats.machine import Machine, Nic
from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.images.repository import (
    Disk,
    DiskRole,
    ImageDescriptor,
    OperatingSystem,
    Progress,
    Repository,
    blob_of,
)
from vcl_provision.model.faults import Refused

PACKAGES = {".ova", ".ovf"}
_SUFFIXES = {".img": DiskFormat.RAW, **{f".{disk_format}": disk_format for disk_format in DiskFormat}}
_KNOWN = ", ".join(sorted((*PACKAGES, *_SUFFIXES)))


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Which revision an image becomes, and what is known of it that its files do not say."""

    name: str
    image: str
    revision: int
    os: OperatingSystem | None = None
    min_memory_mb: int = 0
    min_cpus: int = 0


def import_image(
    path: Path,
    repository: Repository,
    naming: Naming,
    *,
    channel: Channel,
    patience: Patience,
    progress: Progress,
) -> ImageDescriptor:
    """Adds what is in a package or a single disk as a revision, its disks as qcow2 that stand alone.

    A single disk's format is what its name ends in, never what its content says. Raises Refused for a file that does
    not fit or means harm, and what `Repository.add` raises; nothing is listed then.
    """
    if repository.has(naming.name):
        raise Refused(f"{repository} has a revision {naming.name} already", "give the new one another number")
    suffix = path.suffix.lower()
    if suffix not in PACKAGES and suffix not in _SUFFIXES:
        raise Refused(f"{path} is none of {_KNOWN}", "its name says what it is: rename it if you know")
    with _scratch(repository, naming.name) as folder:
        into = folder / "disks"
        if suffix in PACKAGES:
            came = import_package(path, into, DiskFormat.QCOW2, channel=channel, patience=patience, progress=progress)
            machine, disks = came.machine, came.disks
        else:
            into.mkdir()
            disk = into / "disk1.qcow2"
            convert(
                path, _SUFFIXES[suffix], disk, DiskFormat.QCOW2, channel=channel, patience=patience, progress=progress
            )
            facts = standalone(disk, DiskFormat.QCOW2, channel=channel, patience=patience)
            machine = Machine(name=naming.image, cpus=1, memory_mb=512, disks=[facts.virtual_bytes])
            disks = [disk]
        descriptor, files = _described(naming, machine, disks)
        repository.take_in(descriptor, files, patience=patience)
    return descriptor


def export_image(
    repository: Repository,
    name: str,
    target: Path,
    *,
    channel: Channel,
    patience: Patience,
    progress: Progress,
    overwrite: bool = False,
) -> None:
    """Writes a revision as a package with all its disks, or its system's disk alone, by what the target's name ends in.

    Raises Refused for one that is started by a kernel of its own (no package can carry that), a target that is there.
    """
    descriptor = repository.get(name)
    suffix = target.suffix.lower()
    with _scratch(repository, name) as folder:
        if suffix in PACKAGES:
            _require_own_boot(descriptor)
            sources = [_source(repository, disk, folder, patience) for disk in descriptor.disks]
            writing = export_ovf if suffix == ".ovf" else export_ova
            writing(
                _machine(descriptor),
                sources,
                target,
                channel=channel,
                patience=patience,
                progress=progress,
                overwrite=overwrite,
            )
        elif suffix in _SUFFIXES:
            source = _source(repository, descriptor.system_disk, folder, patience)
            convert(
                source.place,
                source.format,
                target,
                _SUFFIXES[suffix],
                channel=channel,
                patience=patience,
                overwrite=overwrite,
                progress=progress,
            )
        else:
            raise Refused(f"{target} is none of {_KNOWN}", "its name says what is to be written")


def _described(naming: Naming, machine: Machine, files: Sequence[Path]) -> tuple[ImageDescriptor, dict[str, Path]]:
    """Its first disk is the system's, as in every package; the others are data until somebody says more."""
    disks: list[Disk] = []
    by_sum: dict[str, Path] = {}
    for number, (file, size) in enumerate(zip(files, machine.disks, strict=True)):
        role, blob = DiskRole.DATA if number else DiskRole.SYSTEM, blob_of(file)
        disks.append(Disk(name=file.stem, role=role, format=DiskFormat.QCOW2, blob=blob, virtual_bytes=size))
        by_sum[blob.sha256] = file
    descriptor = ImageDescriptor(
        name=naming.name,
        image=naming.image,
        revision=naming.revision,
        os=naming.os or _system(machine),
        disks=disks,
        min_memory_mb=naming.min_memory_mb or machine.memory_mb,
        min_cpus=naming.min_cpus or machine.cpus,
        metadata={"imported-from": machine.name},
    )
    return descriptor, by_sum


def _system(machine: Machine) -> OperatingSystem:
    """What a package says of it: `debian12` is Debian 12."""
    found = re.fullmatch(r"([a-z-]+?)(\d*)", machine.os.word)
    family, version = (found[1], found[2]) if found else (machine.os.word, "")
    return OperatingSystem(name=machine.os.said, family=family, version=version, module=_module(family))


def _module(family: str) -> str:
    return "windows" if family.startswith("windows") else "linux"


def _machine(descriptor: ImageDescriptor) -> Machine:
    return Machine(
        name=descriptor.name,
        cpus=descriptor.min_cpus,
        memory_mb=descriptor.min_memory_mb,
        disks=[disk.virtual_bytes for disk in descriptor.disks],
        os=guest_os(descriptor.os.name),
        nics=[Nic()],
        note=descriptor.key,
    )


def _require_own_boot(descriptor: ImageDescriptor) -> None:
    if descriptor.boot is not None:
        said = f"{descriptor.name} is started by a kernel beside its disks, which no package carries"
        raise Refused(said, "build it with a boot loader (vcl build --boot bios), or export its disk alone")


def _source(repository: Repository, disk: Disk, folder: Path, patience: Patience) -> SourceDisk:
    """A disk as a file of this machine."""
    there = repository.path_of(disk.blob)
    if there is None:
        repository.fetch_one(disk.blob, folder, patience=patience)
        there = folder / disk.blob.sha256
    return SourceDisk(place=there, format=disk.format)


@contextmanager
def _scratch(repository: Repository, name: str) -> Generator[Path]:
    """A folder for so long, on the repository's own disk if it is one of this machine."""
    place = repository.scratch_folder()
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"exchange-{name}-", dir=place) as folder:
        yield Path(folder)
