"""A machine into an OVA, or into the folder of an OVF: descriptor, manifest, disks as streamOptimized VMDK.

Source: DMTF DSP0243, packaging. The disks of an OVA are written by qemu-img where they belong in the archive, so none
is copied; descriptor and manifest, whose lengths are known before, are laid into the room kept for them at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.formats import archive
from vcl_provision.images.formats.describing import DiskFile, Family, describe
from vcl_provision.images.formats.disks import convert, standalone
from vcl_provision.images.formats.identity import uuid_of
from vcl_provision.images.formats.machine import Controller, Machine
from vcl_provision.images.formats.manifest import hash_part, write_manifest
from vcl_provision.images.formats.placing import new_files
from vcl_provision.images.formats.progress import Counted, Progress
from vcl_provision.images.formats.streaming import stream_into
from vcl_provision.images.formats.words import DiskFormat, Place, VmdkVariant
from vcl_provision.model.faults import Refused

_RECORD = 20 * archive.BLOCK
_LARGEST = 10**19


@dataclass(frozen=True, kw_only=True)
class SourceDisk:
    """A disk to export: where it is, and its format."""

    place: Place
    format: DiskFormat


def export_ova(
    machine: Machine,
    sources: Sequence[SourceDisk],
    target: Path,
    *,
    channel: Channel,
    patience: Patience,
    family: Family = Family.VMWARE,
    moment: int = 0,
    identity: str = "",
    progress: Progress | None = None,
    overwrite: bool = False,
) -> None:
    """Writes the machine and its disks into one archive: all of it, or none. `machine.disks` is measured here.

    `family` is whose hardware is described. `moment` is the time of the files in it, in seconds of the epoch;
    `identity` as for `disks.convert`: with both, the same machine gives the same bytes.
    Raises Refused for a disk that does not stand alone, a target that is there, a full disk; Cancelled, TimedOut.
    """
    machine = _measured(machine, sources, channel, patience)
    with new_files(target, overwrite=overwrite) as made:
        writing = _Ova(made, machine, family, moment, identity)
        told = Counted(progress, sum(machine.disks))
        for source, size in zip(sources, machine.disks, strict=True):
            writing.add_disk(source, size, channel, patience, told.within)
            told.more(size)
        writing.finish(patience)


def export_ovf(
    machine: Machine,
    sources: Sequence[SourceDisk],
    target: Path,
    *,
    channel: Channel,
    patience: Patience,
    family: Family = Family.VMWARE,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> None:
    """The same as files: `target` is the .ovf; the .mf and the disks are laid beside it, named after it."""
    machine = _measured(machine, sources, channel, patience)
    if target.suffix != ".ovf":
        raise Refused(f"{target} does not end in .ovf", "name the descriptor; the disks are named after it")
    told = Counted(progress, sum(machine.disks))
    with new_files(target, overwrite=overwrite) as made:
        files: list[DiskFile] = []
        digests: dict[str, str] = {}
        for source, size, name in zip(sources, machine.disks, _disk_names(target.stem, machine), strict=True):
            disk = made.with_name(name)
            convert(
                source.place,
                source.format,
                disk,
                DiskFormat.VMDK,
                variant=VmdkVariant.STREAM,
                adapter=_adapter(machine),
                channel=channel,
                patience=patience,
                progress=told.within,
            )
            files.append(DiskFile(name=name, bytes=disk.stat().st_size))
            digests[name] = hash_part(disk, 0, files[-1].bytes, patience=patience)
            told.more(size)
        made.write_bytes(describe(machine, files, family))
        first = {made.name: hash_part(made, 0, made.stat().st_size, patience=patience)}
        made.with_suffix(".mf").write_bytes(write_manifest({**first, **digests}))


class _Ova:
    """An archive that is being written: `.ovf`, `.mf`, then the disks."""

    def __init__(self, path: Path, machine: Machine, family: Family, moment: int, identity: str) -> None:
        self._path, self._machine, self._family, self._moment = path, machine, family, moment
        self._identity = identity
        stem = _stem(machine.name)
        self._ovf, self._mf = f"{stem}.ovf", f"{stem}.mf"
        self._names = _disk_names(stem, machine)
        self._files: list[DiskFile] = []
        self._offsets: list[int] = []
        unknown = [self._file(name, _LARGEST) for name in self._names]
        self._ovf_room = len(describe(machine, unknown, family))
        self._mf_room = len(write_manifest(dict.fromkeys((self._ovf, *self._names), "0" * 64)))
        self._mf_at = archive.BLOCK + archive.padded(self._ovf_room)
        self._end = self._mf_at + archive.BLOCK + archive.padded(self._mf_room)
        path.touch()

    def add_disk(
        self, source: SourceDisk, size: int, channel: Channel, patience: Patience, progress: Progress | None
    ) -> None:
        """The next disk, at the end of what is there."""
        name, begins = self._names[len(self._files)], self._end + archive.BLOCK
        written = stream_into(
            self._path,
            begins,
            source.place,
            source.format,
            name=name,
            virtual_bytes=size,
            adapter=_adapter(self._machine),
            identity=self._identity,
            channel=channel,
            patience=patience,
            progress=progress,
        )
        self._files.append(self._file(name, written))
        self._offsets.append(begins)
        self._end = begins + archive.padded(written)

    def _file(self, name: str, size: int) -> DiskFile:
        if not self._identity:
            return DiskFile(name=name, bytes=size)
        return DiskFile(name=name, bytes=size, uuid=str(uuid_of(f"{self._identity} {name}")))

    def finish(self, patience: Patience) -> None:
        """Headers, descriptor and manifest, now that sizes and digests are known."""
        digests = {
            file.name: hash_part(self._path, offset, file.bytes, patience=patience)
            for file, offset in zip(self._files, self._offsets, strict=True)
        }
        with self._path.open("r+b") as file:
            file.truncate(-(-(self._end + len(archive.END)) // _RECORD) * _RECORD)
            for disk, offset in zip(self._files, self._offsets, strict=True):
                self._lay(file, offset - archive.BLOCK, disk.name, disk.bytes, b"")
            text = describe(self._machine, self._files, self._family).ljust(self._ovf_room, b"\n")
            self._lay(file, 0, self._ovf, len(text), text)
        first = {self._ovf: hash_part(self._path, archive.BLOCK, self._ovf_room, patience=patience)}
        with self._path.open("r+b") as file:
            self._lay(file, self._mf_at, self._mf, self._mf_room, write_manifest({**first, **digests}))

    def _lay(self, file: BinaryIO, at: int, name: str, size: int, content: bytes) -> None:
        file.seek(at)
        file.write(archive.header(name, size, self._moment) + content)


def _measured(machine: Machine, sources: Sequence[SourceDisk], channel: Channel, patience: Patience) -> Machine:
    if not sources:
        raise Refused(f"{machine.name} has no disk to export", "name at least one")
    facts = [standalone(source.place, source.format, channel=channel, patience=patience) for source in sources]
    return replace(machine, disks=[fact.virtual_bytes for fact in facts])


def _disk_names(stem: str, machine: Machine) -> Sequence[str]:
    return [f"{stem}-disk{n}.vmdk" for n in range(1, len(machine.disks) + 1)]


def _stem(name: str) -> str:
    """A machine's name as a file name that every system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "machine"


def _adapter(machine: Machine) -> str:
    return "ide" if machine.controller is Controller.IDE else "lsilogic"
