"""What the database says of revisions beside what their descriptors say: compared, and neither corrected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vcl_provision.images.repository import ImageDescriptor, Listing
from vcl_provision.store.catalogue import RevisionFile
from vcl_provision.store.revisions import CataloguedRevision


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something found of a revision; `fault` is false for what is worth knowing and nothing to mend."""

    name: str
    said: str
    fault: bool = True


def compare(listing: Listing, catalogued: Sequence[CataloguedRevision]) -> list[Finding]:
    """All differences, by revision."""
    described = {descriptor.name: descriptor for descriptor in listing.good}
    known = {row.name: row for row in catalogued}
    found = [Finding(name=bad.name, said=f"its descriptor {bad.reason}") for bad in listing.bad]
    unusable = {bad.name for bad in listing.bad}
    for name in sorted(described.keys() | known.keys()):
        descriptor, row = described.get(name), known.get(name)
        if descriptor and row:
            found.extend(Finding(name=name, said=said, fault=fault) for said, fault in _differences(descriptor, row))
        elif row and name not in unusable:
            found.append(Finding(name=name, said="is in the database, and not in the repository"))
        elif descriptor:
            found.append(Finding(name=name, said="is in the repository, and not in the database", fault=False))
    return found


def files_of(descriptor: ImageDescriptor) -> list[RevisionFile]:
    """What it consists of, as the database has it: disks in their order, then what it is started with."""
    files = [
        RevisionFile(
            role=str(disk.role),
            name=disk.name,
            format=str(disk.format),
            bytes=disk.blob.bytes,
            sha256=disk.blob.sha256,
            virtual_bytes=disk.virtual_bytes,
        )
        for disk in descriptor.disks
    ]
    boot = descriptor.boot
    for role, blob in (("kernel", boot and boot.kernel), ("initrd", boot and boot.initrd)):
        if blob:
            files.append(RevisionFile(role=role, name=role, format="raw", bytes=blob.bytes, sha256=blob.sha256))
    return files


def _differences(descriptor: ImageDescriptor, row: CataloguedRevision) -> Iterator[tuple[str, bool]]:
    pairs = {
        "image": (row.image, descriptor.image),
        "revision": (row.revision, descriptor.revision),
        "OS module": (row.os_module, descriptor.os.module),
        "operating system": (row.os, descriptor.os.name),
    }
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            yield f"{what} is {ours!r} in the database and {theirs!r} in its descriptor", True
    needs = {"memory": (row.min_ram_mb, descriptor.min_memory_mb), "CPUs": (row.min_cpus, descriptor.min_cpus)}
    for what, (ours, theirs) in needs.items():
        if row.production and ours < theirs:
            yield f"is given {ours} as {what} by the database, and needs {theirs} by its descriptor", True
    if not row.files:
        yield "the database does not say what it consists of", False
    elif list(row.files) != files_of(descriptor):
        yield f"consists of other files in the database: {_which(row.files, files_of(descriptor))}", True


def _which(ours: Sequence[RevisionFile], theirs: Sequence[RevisionFile]) -> str:
    own, other = {file.name: file for file in ours}, {file.name: file for file in theirs}
    differing = sorted(name for name in own.keys() | other.keys() if own.get(name) != other.get(name))
    return ", ".join(differing) or "in another order"
