"""Disks: what one is, whether it stands alone, and made, converted and compared by qemu-img.

Every disk's format is named by the caller. Nothing that an image says is followed to another file: it is read here
first, and refused if it wants one (`require_standalone`); the one exception is an ESX pair, `NAME.vmdk` with
`NAME-flat.vmdk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vcl_provision.channels.command import last_line
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.formats import qcow2, qemu_img, vdi, vhdx, vmdk
from vcl_provision.images.formats.header import DiskBytes, Header, checked_file
from vcl_provision.images.formats.identity import identify
from vcl_provision.images.formats.placing import new_files
from vcl_provision.images.formats.progress import Progress
from vcl_provision.images.formats.words import MOST_BYTES, DiskFormat, Place, Slice, VmdkVariant, flat_name
from vcl_provision.model.faults import Refused

__all__ = [
    "MOST_BYTES",
    "DiskFacts",
    "DiskFormat",
    "Place",
    "Slice",
    "VmdkVariant",
    "convert",
    "create",
    "flat_name",
    "inspect",
    "require_standalone",
    "resize",
    "same_content",
    "standalone",
]

COMPRESSIONS = {DiskFormat.QCOW2: ("", "zlib", "zstd"), DiskFormat.VMDK: ("",)}
"""What `convert` can compress with; a streamOptimized VMDK is compressed whatever is asked."""

_GROWING = {DiskFormat.RAW, DiskFormat.QCOW2}
_ALIGNMENT = 512
_CORRUPT, _LEAKED = 2, 3
_FETCH = "fetch it again from where it came from"
_FLATTEN = "flatten it where it came from: qemu-img convert"
_READERS = {
    DiskFormat.QCOW2: qcow2.read_header,
    DiskFormat.VMDK: vmdk.read_header,
    DiskFormat.VDI: vdi.read_header,
    DiskFormat.VHDX: vhdx.read_header,
}


@dataclass(frozen=True, kw_only=True)
class DiskFacts:
    """What a disk is. Sizes in bytes: `virtual_bytes` as its machine sees it, `allocated_bytes` as it takes here.

    `variant` is a VMDK's createType, or whether a VDI is dynamic or fixed. `backing_file`, `data_file` and `extents`
    are other files that it wants, as it names them. `damaged` says what is wrong with it, empty if nothing was found.
    """

    place: Place
    format: DiskFormat
    virtual_bytes: int
    allocated_bytes: int
    variant: str = ""
    backing_file: str = ""
    data_file: str = ""
    extents: Sequence[str] = ()
    encrypted: bool = False
    snapshots: int = 0
    damaged: str = ""


def inspect(
    place: Place, disk_format: DiskFormat, *, channel: Channel, patience: Patience, most_bytes: int = MOST_BYTES
) -> DiskFacts:
    """What a disk is, as it says itself and, where it stands alone, as QEMU finds it: its tables are checked too.

    A disk that wants other files is described, not opened. Raises Refused if it is not of this format, or if its
    virtual size is over `most_bytes`; Transient while a running machine holds it.
    """
    facts = _read_facts(place, disk_format, most_bytes)
    if facts.damaged or facts.encrypted or facts.backing_file or facts.data_file:
        return facts
    return _checked(facts, channel, patience)


def require_standalone(facts: DiskFacts, *, pair: bool = False) -> DiskFacts:
    """The same facts, if the disk is whole and needs no other file (`pair`: but the flat file of an ESX pair).

    Raises Refused, with what to do about it, for backing and data files, parents, extents elsewhere, encryption,
    internal snapshots and damage.
    """
    what, hint = _objection(facts, pair=pair)
    if what:
        raise Refused(f"{facts.place} {what}", hint)
    return facts


def standalone(
    place: Place, disk_format: DiskFormat, *, channel: Channel, patience: Patience, most_bytes: int = MOST_BYTES
) -> DiskFacts:
    """The facts of a disk that is about to be read, as `inspect`; raises Refused as `require_standalone`.

    Snapshots in it do no harm to who reads it: it is read as it is now.
    """
    facts = inspect(place, disk_format, channel=channel, patience=patience, most_bytes=most_bytes)
    return require_standalone(replace(facts, snapshots=0), pair=True)


def create(target: Path, disk_format: DiskFormat, virtual_bytes: int, *, channel: Channel, patience: Patience) -> None:
    """Makes an empty disk. Raises Refused if the target is there already, or the size is none for a disk."""
    _check_size(virtual_bytes)
    with new_files(target, overwrite=False) as made:
        arguments = ["create", "-q", "-f", disk_format.value, str(made), str(virtual_bytes)]
        qemu_img.run(channel, arguments, about=target, patience=patience, writes=qemu_img.most_written(virtual_bytes))


def resize(path: Path, disk_format: DiskFormat, virtual_bytes: int, *, channel: Channel, patience: Patience) -> None:
    """Grows a disk, in place. Raises Refused if it would shrink and so lose its end, or cannot grow."""
    _check_size(virtual_bytes)
    if disk_format not in _GROWING:
        raise Refused(f"{path} is a {disk_format}, which qemu-img cannot grow", "convert it to qcow2 or raw first")
    facts = require_standalone(inspect(path, disk_format, channel=channel, patience=patience))
    if virtual_bytes < facts.virtual_bytes:
        said = f"{path} has {facts.virtual_bytes} bytes: {virtual_bytes} would cut off its end"
        raise Refused(said, "make a smaller disk, and copy the files")
    arguments = ["resize", "-q", qemu_img.node(path, disk_format), str(virtual_bytes)]
    qemu_img.run(channel, arguments, about=path, patience=patience, writes=qemu_img.most_written(virtual_bytes))


def convert(
    source: Place,
    source_format: DiskFormat,
    target: Path,
    target_format: DiskFormat,
    *,
    channel: Channel,
    patience: Patience,
    variant: VmdkVariant = VmdkVariant.SPARSE,
    adapter: str = "lsilogic",
    compression: str = "",
    identity: str = "",
    overwrite: bool = False,
    most_bytes: int = MOST_BYTES,
    progress: Progress | None = None,
) -> None:
    """Writes the content of a disk in another format: the whole target, or none, and what was there before as it was.

    `variant` and `adapter` (ide, lsilogic, buslogic: the controller written into it) are for VMDK. `compression` is
    zlib or zstd, for qcow2. `identity` is what the numbers in a VMDK's and a VDI's own file follow from, with its name;
    without, they are random. A target that is a block device is overwritten, and must be raw.
    Raises Refused for a source that does not stand alone, a target that is there already, a full disk.
    """
    _check_compression(target_format, compression)
    facts = standalone(source, source_format, channel=channel, patience=patience, most_bytes=most_bytes)
    reading = qemu_img.node(source, source_format)
    fill = partial(
        qemu_img.fill, channel, about=target, patience=patience, virtual_bytes=facts.virtual_bytes, progress=progress
    )
    if target.is_block_device():
        fill(["-n", "--target-image-opts", reading, _onto_device(target, target_format, facts.virtual_bytes)])
        return
    with new_files(target, overwrite=overwrite) as made:
        if target_format is DiskFormat.VMDK and variant is VmdkVariant.ESX:
            flat = made.with_name(flat_name(made.name))
            fill(["-O", "raw", reading, str(flat)])
            made.write_text(vmdk.flat_descriptor(made.name, flat.stat().st_size, adapter), encoding="ascii")
        else:
            options = _options(target_format, variant, adapter, compression)
            fill(["-O", target_format.value, *options, reading, str(made)])
            if identity:
                identify(made, target_format, f"{identity} {made.name}")


def same_content(
    one: Place, one_format: DiskFormat, other: Place, other_format: DiskFormat, *, channel: Channel, patience: Patience
) -> bool:
    """Whether two disks hold the same, whatever their formats; zeros at the end of the longer one do not count.

    Raises Refused if either does not stand alone: a comparison follows no names.
    """
    for place, disk_format in ((one, one_format), (other, other_format)):
        standalone(place, disk_format, channel=channel, patience=patience)
    arguments = ["compare", "-q", qemu_img.node(one, one_format), qemu_img.node(other, other_format)]
    return qemu_img.run(channel, arguments, about=one, patience=patience, accept=(0, 1)).status == 0


def _read_facts(place: Place, disk_format: DiskFormat, most_bytes: int) -> DiskFacts:
    """What the header says; for raw, what its size says."""
    reader = _READERS.get(disk_format)
    header = reader(place) if reader else Header(virtual_bytes=_whole_sectors(DiskBytes(place).bytes))
    if header.virtual_bytes > most_bytes:
        said = f"{place} says that it has {header.virtual_bytes} bytes; at most {most_bytes} are taken"
        raise Refused(said, "raise the limit if the disk is meant to be so large")
    return DiskFacts(
        place=place,
        format=disk_format,
        virtual_bytes=header.virtual_bytes,
        allocated_bytes=_allocated(place, header),
        variant=header.variant,
        backing_file=header.backing_file,
        data_file=header.data_file,
        extents=header.extents,
        encrypted=header.encrypted,
        snapshots=header.snapshots,
        damaged=header.damaged,
    )


def _whole_sectors(size: int) -> int:
    """A raw file may end anywhere; a disk ends with a sector."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _allocated(place: Place, header: Header) -> int:
    if isinstance(place, Slice):
        return place.bytes
    paths = [checked_file(place), *(place.with_name(name) for name in header.extents if not header.damaged)]
    return sum(path.stat().st_blocks * 512 for path in paths)


def _checked(facts: DiskFacts, channel: Channel, patience: Patience) -> DiskFacts:
    """With what QEMU finds following the disk's tables: `convert` itself would read a cut-off qcow2 as zeros."""
    if facts.format is DiskFormat.RAW:
        return facts
    arguments = ["check", "-q", qemu_img.node(facts.place, facts.format)]
    ran = qemu_img.run(channel, arguments, about=facts.place, patience=patience, accept=(0, _CORRUPT, _LEAKED))
    return replace(facts, damaged=f"qemu-img check: {last_line(ran.stderr)}") if ran.status == _CORRUPT else facts


def _objection(facts: DiskFacts, *, pair: bool) -> tuple[str, str]:
    if facts.damaged:
        return f"is damaged: {facts.damaged}", _FETCH
    if facts.backing_file:
        return f"rests on another image: {facts.backing_file}", _FLATTEN
    if facts.data_file:
        return f"keeps its content in another file: {facts.data_file}", _FLATTEN
    if facts.encrypted:
        return "is encrypted", "convert it where its key is, without encryption"
    if facts.extents and not pair:
        return f"is only a descriptor of {facts.extents[0]}", "convert it to one file: qemu-img convert"
    if facts.snapshots:
        return (
            f"holds {facts.snapshots} snapshots of earlier states",
            "delete them (qemu-img snapshot -d), or convert it",
        )
    return "", ""


def _check_size(virtual_bytes: int) -> None:
    if virtual_bytes <= 0 or virtual_bytes % _ALIGNMENT:
        raise Refused(f"a disk cannot have {virtual_bytes} bytes", f"give a multiple of {_ALIGNMENT} above zero")


def _check_compression(disk_format: DiskFormat, compression: str) -> None:
    able = COMPRESSIONS.get(disk_format, ("",))
    if compression not in able:
        said = f"{disk_format} cannot be compressed with {compression}"
        raise Refused(said, "qcow2 can, with zlib or zstd; a streamOptimized vmdk is compressed by itself")


def _options(disk_format: DiskFormat, variant: VmdkVariant, adapter: str, compression: str) -> list[str]:
    if disk_format is DiskFormat.VMDK:
        return ["-o", f"subformat={variant},adapter_type={adapter}"]
    return ["-c", "-o", f"compression_type={compression}"] if compression else []


def _onto_device(target: Path, target_format: DiskFormat, size: int) -> str:
    """The device as qemu-img is told of it. Raises Refused if the disk cannot lie on it as it is."""
    room = DiskBytes(target).bytes
    if target_format is not DiskFormat.RAW or room < size:
        said = f"{target} is a block device of {room} bytes: it takes a raw disk of at most so many, not {size}"
        raise Refused(said, "convert to raw, onto a device that is large enough")
    return f"driver=raw,file.driver=host_device,file.filename={str(target.absolute()).replace(',', ',,')}"
