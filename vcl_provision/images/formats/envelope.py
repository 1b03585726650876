"""The descriptor of an OVF, read. Source: DMTF DSP0243 1.1, which everybody writes, and 2.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from vcl_provision.images.formats.archive import plain_name
from vcl_provision.images.formats.hardware import AGAIN, disk_items, items_of, number, read_machine, unit_bytes
from vcl_provision.images.formats.machine import Machine
from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.images.formats.xml import attribute, child_text, children, descendants, local, parse_xml
from vcl_provision.model.faults import Refused

_READ = (DiskFormat.VMDK, DiskFormat.QCOW2, DiskFormat.VDI, DiskFormat.VHDX)


@dataclass(frozen=True, kw_only=True)
class PackedDisk:
    """A disk of a package: the file it lies in, and its virtual size, in bytes, as the descriptor has them.

    `file_bytes` is the size of that file, None if the descriptor does not say.
    """

    file: str
    format: DiskFormat
    virtual_bytes: int
    gzip: bool = False
    file_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What a descriptor says: the machine, its disks in the machine's order, all files that it refers to."""

    machine: Machine
    disks: Sequence[PackedDisk]
    files: Sequence[str]


def read_envelope(text: bytes, about: str) -> Envelope:
    """Raises Refused for a descriptor of no machine, or several, or of what is not in the package itself."""
    root = parse_xml(text, about)
    if local(root.tag) != "Envelope":
        raise Refused(f"{about} is no OVF descriptor: it begins with {local(root.tag)}", "name the .ovf or .ova")
    systems = list(descendants(root, "VirtualSystem"))
    if len(systems) != 1:
        raise Refused(f"{about} describes {len(systems)} machines", "export one machine alone, as OVF 1.0 or later")
    files = _files(root, about)
    items = items_of(root, systems[0])
    disks = _drives(items, _packed(root, files, about), about)
    machine = read_machine(systems[0], items, [disk.virtual_bytes for disk in disks], about)
    return Envelope(machine=machine, disks=disks, files=[file.name for file in files.values()])


@dataclass(frozen=True, kw_only=True)
class _File:
    name: str
    gzip: bool
    bytes: int | None


def _files(root: Element, about: str) -> Mapping[str, _File]:
    """By their id. All must lie in the package: a URL, or a path elsewhere, is refused."""
    references = [file for section in descendants(root, "References") for file in children(section, "File")]
    files = {attribute(reference, "id"): _file(reference, about) for reference in references}
    if len({file.name for file in files.values()}) != len(references):
        raise Refused(f"{about} refers to one file twice", AGAIN)
    return files


def _file(reference: Element, about: str) -> _File:
    name = plain_name(attribute(reference, "href"), about)
    compression, size = attribute(reference, "compression"), attribute(reference, "size")
    if compression not in {"", "identity", "gzip"} or attribute(reference, "chunkSize"):
        raise Refused(f"{about} has {name} in chunks, or packed with {compression[:40] or 'nothing'}", AGAIN)
    return _File(
        name=name,
        gzip=compression == "gzip",
        bytes=number(size, f"the size of {name}", about) if size else None,
    )


def _packed(root: Element, files: Mapping[str, _File], about: str) -> Mapping[str, PackedDisk]:
    """By the disk's id."""
    disks = [disk for section in descendants(root, "DiskSection") for disk in children(section, "Disk")]
    return {attribute(disk, "diskId"): _packed_disk(disk, files, about) for disk in disks}


def _packed_disk(disk: Element, files: Mapping[str, _File], about: str) -> PackedDisk:
    name, file = attribute(disk, "diskId"), files.get(attribute(disk, "fileRef"))
    if attribute(disk, "parentRef"):
        raise Refused(f"{about} has the disk {name}, which rests on another one", "flatten it, then export again")
    if file is None:
        raise Refused(f"{about} has the disk {name} without a file", "an empty disk, or a file that is missing")
    size = number(attribute(disk, "capacity"), f"the capacity of {name}", about)
    return PackedDisk(
        file=file.name,
        format=_format(attribute(disk, "format"), about),
        virtual_bytes=size * unit_bytes(attribute(disk, "capacityAllocationUnits"), about),
        gzip=file.gzip,
        file_bytes=file.bytes,
    )


def _format(uri: str, about: str) -> DiskFormat:
    """From the URI that says it: it names a specification, and is never fetched."""
    for word in _READ:
        if word in uri.lower():
            return word
    if "qcow" in uri.lower():
        return DiskFormat.QCOW2  # http://www.gnome.org/~markmc/qcow-image-format.html
    raise Refused(f"{about} has a disk of a format that is not read: {uri[:120]!r}", "export with streamOptimized VMDK")


def _drives(items: Sequence[Element], packed: Mapping[str, PackedDisk], about: str) -> Sequence[PackedDisk]:
    """What lies in the machine's disk drives, in their order: each disk in one drive."""
    names = [_disk_in(item, packed, about) for item in disk_items(items)]
    if not names:
        raise Refused(f"{about} describes a machine without disks", AGAIN)
    if len(set(names)) != len(names):
        raise Refused(f"{about} has one disk in two drives", AGAIN)
    return [packed[name] for name in names]


def _disk_in(drive: Element, packed: Mapping[str, PackedDisk], about: str) -> str:
    resource = child_text(drive, "HostResource")
    name = resource.rpartition("/")[2]
    if resource not in {f"ovf:/disk/{name}", f"/disk/{name}"} or name not in packed:
        raise Refused(f"{about} has a disk drive for {resource[:80]!r}, which is no disk of it", AGAIN)
    return name
