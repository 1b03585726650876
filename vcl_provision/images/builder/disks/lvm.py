"""Logical volumes, on hosts whose kernel has the device mapper."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.disks.loop import loop_device
from vcl_provision.images.builder.disks.placing import Placed
from vcl_provision.model.faults import Refused

CONTROL = Path("/dev/mapper/control")


def check_host() -> None:
    """Raises Refused where logical volumes cannot be made."""
    if not CONTROL.exists():
        hint = "load the module (modprobe dm-mod), build on another host, or take a layout without lvm: it grows too"
        raise Refused(f"this host's kernel has no device mapper ({CONTROL} is missing), which lvm needs", hint)


@contextmanager
def logical_volumes(
    device: Path, placed: Placed, *, channel: Channel, patience: Patience
) -> Generator[Sequence[tuple[Placed, Path]]]:
    """Makes the volume group of a physical volume, and gives each logical volume with its block device.

    The group is inactive again when left. A kill leaves it active: the kernel knows no owner of it. The next one that
    makes a group of this name is told so. Raises Refused if this host has a group of that name.
    """
    check_host()
    group = placed.partition.group
    if channel.run(("vgs", "--noheadings", group), patience=patience, changes=False, accept=(0, 5)).status == 0:
        hint = f"take another name for the group; one that a killed build left is ended by: vgchange -an {group}"
        raise Refused(f"this host has a volume group {group} already", hint)
    with loop_device(device, start=placed.start, size=placed.size, patience=patience) as loop:
        only = ("--devices", str(loop))  # whatever else is on this host is not looked at
        channel.run(("pvcreate", *only, "-qq", "--yes", "--force", str(loop)), patience=patience)
        try:
            channel.run(("vgcreate", *only, "-qq", group, str(loop)), patience=patience)
            for volume in sorted(placed.volumes, key=lambda volume: volume.size == 0):  # the rest is taken last
                size = ("--size", f"{volume.size}b") if volume.size else ("--extents", "100%FREE")
                argv = ("lvcreate", *only, "-qq", "--yes", "--wipesignatures", "y", "--name", volume.partition.label)
                channel.run((*argv, *size, group), patience=patience)
            yield [(volume, Path("/dev", group, volume.partition.label)) for volume in placed.volumes]
        finally:
            channel.run(("vgchange", *only, "-qq", "-an", group), patience=patience, accept=(0, 5))
