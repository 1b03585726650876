"""A package from outside, OVA or OVF folder: what is in it, checked before a byte of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.images.formats import archive, envelope, manifest, xml
from vcl_provision.images.formats.envelope import Envelope
from vcl_provision.images.formats.header import DiskBytes
from vcl_provision.images.formats.manifest import Digest, Told
from vcl_provision.images.formats.words import MOST_BYTES, Slice
from vcl_provision.model.faults import Refused


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an import may take at most, in bytes: the package itself, and all its disks as their machine sees them."""

    package_bytes: int = MOST_BYTES
    virtual_bytes: int = MOST_BYTES


@dataclass(frozen=True, kw_only=True)
class Package:
    """An opened package. `parts`: where each file of it lies. `digests` is empty if it came without a manifest."""

    path: Path
    envelope: Envelope
    parts: Mapping[str, Slice]
    digests: Mapping[str, Digest]


def open_package(path: Path, *, limits: Limits | None = None) -> Package:
    """Reads an .ova, or an .ovf with its files beside it: names and sizes, the descriptor, the manifest; no disk.

    Raises Refused for anything but plain files right there, sizes that do not fit, files that are missing, and for
    more than `limits` allow.
    """
    limits = limits or Limits()
    parts = _beside(path) if path.suffix.lower() == ".ovf" else _inside(path)
    descriptor = _only(parts, ".ovf", path) if path.suffix.lower() != ".ovf" else path.name
    described = envelope.read_envelope(_text(parts[descriptor], xml.MOST_BYTES), f"{descriptor} of {path.name}")
    digests = _digests(parts, descriptor)
    needed = {descriptor, *described.files}
    for name in (*needed, *digests):
        _place(parts, name, path)
    _check_sizes(path, described, parts, limits)
    return Package(
        path=path,
        envelope=described,
        parts={name: parts[name] for name in needed},
        digests=digests,
    )


def verify_package(package: Package, *, patience: Patience, told: Told | None = None) -> bool:
    """Compares every file with the manifest. False if there is none; raises Refused at the first difference."""
    if not package.digests:
        return False
    for name, part in package.parts.items():
        wanted = package.digests.get(name)
        if wanted is None:
            raise Refused(f"{package.path}: its manifest does not have {name}", "do not trust it, or export it again")
        found = manifest.hash_part(
            part.path, part.offset, part.bytes, patience=patience, algorithm=wanted.algorithm, told=told
        )
        if found != wanted.value:
            raise Refused(f"{package.path}: {name} is not what its manifest says", "fetch it again")
    return True


def _inside(path: Path) -> dict[str, Slice]:
    members = archive.read_index(path)
    return {member.name: Slice(path=path, offset=member.offset, bytes=member.bytes) for member in members}


class _Folder(dict[str, Slice]):
    """The files beside a descriptor, looked up as they are named: plain files only, no link is followed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, name: str) -> Slice:
        file = self._folder / archive.plain_name(name, str(self._folder))
        if file.is_symlink() or not file.is_file():
            raise KeyError(name)
        part = self[name] = Slice(path=file, offset=0, bytes=DiskBytes(file).bytes)
        return part


def _beside(path: Path) -> dict[str, Slice]:
    return _Folder(path.parent)


def _only(parts: Mapping[str, Slice], suffix: str, path: Path) -> str:
    names = [name for name in parts if name.lower().endswith(suffix)]
    if len(names) != 1:
        raise Refused(
            f"{path} holds {len(names)} files that end in {suffix}, instead of one", "export the machine again"
        )
    return names[0]


def _place(parts: Mapping[str, Slice], name: str, path: Path) -> Slice:
    try:
        return parts[name]
    except KeyError as error:
        raise Refused(
            f"{path} speaks of {name}, which is not there as a plain file", "fetch all of it again"
        ) from error


def _text(part: Slice, most_bytes: int) -> bytes:
    member = archive.Member(name=part.path.name, offset=part.offset, bytes=part.bytes)
    return archive.read_member(part.path, member, most_bytes)


def _digests(parts: Mapping[str, Slice], descriptor: str) -> Mapping[str, Digest]:
    name = Path(descriptor).with_suffix(".mf").name
    try:
        part = parts[name]
    except KeyError:
        return {}
    return manifest.parse_manifest(_text(part, manifest.MOST_BYTES), name)


def _check_sizes(path: Path, described: Envelope, parts: Mapping[str, Slice], limits: Limits) -> None:
    packed = sum(_place(parts, name, path).bytes for name in described.files)
    if packed > limits.package_bytes:
        raise Refused(
            f"{path} has {packed} bytes; at most {limits.package_bytes} are taken", "raise the limit, if meant"
        )
    virtual = sum(disk.virtual_bytes for disk in described.disks)
    if virtual > limits.virtual_bytes:
        said = f"{path} has disks of {virtual} bytes; at most {limits.virtual_bytes} are taken"
        raise Refused(said, "raise the limit, if meant")
    for disk in described.disks:
        if disk.file_bytes not in {None, parts[disk.file].bytes}:
            said = f"{path} has {parts[disk.file].bytes} bytes in {disk.file} instead of {disk.file_bytes}"
            raise Refused(said, "an interrupted copy, perhaps: fetch it again")
