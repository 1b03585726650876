"""The disks that a spec asks for, as a layout."""

from __future__ import annotations

from collections.abc import Iterator

from vcl_provision.images.builder.disks.layout import FileSystem, Layout, Table, from_sizes, whole_disk
from vcl_provision.images.builder.disks.layout_files import read_layout
from vcl_provision.images.builder.disks.loaders import Loader, bootable
from vcl_provision.images.builder.disks.placing import root_uuid
from vcl_provision.images.builder.disks.sizes import size_bytes
from vcl_provision.images.builder.spec import BuildSpec
from vcl_provision.model.faults import Refused
from vcl_provision.model.options import nearest

ROOT_LABEL = "vcl-root"
ROOTS = ("ext4", "xfs", "btrfs")


def layout_of(spec: BuildSpec) -> Layout:
    """With what the boot loader needs. Raises Refused for sizes and layout files that cannot be used."""
    return bootable(_wanted(spec), spec.boot)


def root_word(spec: BuildSpec, seed: str) -> str:
    """How a kernel that is handed over finds its root."""
    layout = layout_of(spec)
    return f"LABEL={layout.root.label}" if layout.root.label else f"UUID={root_uuid(layout, seed)}"


def kinds_of(spec: BuildSpec) -> set[FileSystem]:
    """All that the machine finds on its disks, logical volumes and what holds them."""
    layout = layout_of(spec)
    partitions = [part for disk in layout.disks for part in disk.partitions]
    return {part.filesystem for part in (*partitions, *layout.filesystems())}


def _wanted(spec: BuildSpec) -> Layout:
    disks = spec.disks
    if disks.layout is not None:
        return read_layout(disks.layout)
    filesystem = FileSystem(disks.filesystem)
    root, swap, opt = (size_bytes(text) if text else 0 for text in (disks.root, disks.swap, disks.opt))
    if spec.boot is Loader.DIRECT and not swap and not opt:
        # a profile's features are of its ext4: they say nothing about the file system that is asked for instead
        features = disks.features if filesystem is FileSystem.EXT4 else ()
        return whole_disk(root, filesystem=filesystem, label=ROOT_LABEL, features=features)
    return from_sizes(root=root, swap=swap, opt=opt, table=Table(disks.table), filesystem=filesystem)


def layout_problems(spec: BuildSpec) -> Iterator[str]:
    """What is wrong with the disks of a spec."""
    for word, known in ((spec.disks.filesystem, ROOTS), (spec.disks.table, ("gpt", "mbr"))):
        if word not in known:
            yield f"a disk cannot have {word!r}{nearest(word, known)}"
            return
    try:
        layout = layout_of(spec)
    except Refused as no:
        yield no.said
        return
    devices = spec.disks.devices
    if devices and len(devices) != len(layout.disks):
        yield f"{len(devices)} devices are given for {len(layout.disks)} disks"
    yield from (f"there is no block device {device}" for device in devices if not device.is_block_device())
