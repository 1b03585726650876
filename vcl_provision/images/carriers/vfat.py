"""The NoCloud disk as a FAT file system, for what boots without a driver for ISO 9660.

Made by dosfstools and mtools, without mounting. (pyfatfs rests on a package that current setuptools break.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.carriers.nocloud import LABEL, nocloud_files
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.images.hosttools import require
from vcl_provision.model.faults import Refused

_TOOLS = {"mkfs.vfat": "dosfstools", "mcopy": "mtools"}
_KIB = 1024
"""Size of the disk in KiB: the smallest that mkfs.vfat likes; what machines are told takes a few."""


def nocloud_vfat(firstboot: FirstBoot, *, channel: Channel, patience: Patience) -> bytes:
    """The whole disk, 1 MiB: what `nocloud_iso` holds. Keep it readable for the hypervisor only.

    `channel` is this machine's. Raises Refused (missing programs; parameters whose names FAT cannot tell apart or not
    keep), CommandFailed (more than fits on the disk), TimedOut, Cancelled.
    """
    files = nocloud_files(firstboot)
    require(_TOOLS, for_what="a FAT disk", channel=channel, patience=patience)
    _refuse_twins(files)
    with tempfile.TemporaryDirectory(prefix="vcl-vfat-") as folder:  # mode 700
        disk, tree = Path(folder, "disk"), Path(folder, "tree")
        for path, content in files.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8", newline="")
        make = ("mkfs.vfat", "--invariant", "-n", LABEL, "-C", str(disk), str(_KIB))
        channel.run(make, patience=patience, changes=False)
        top = sorted(str(path) for path in tree.iterdir())
        channel.run(("mcopy", "-s", "-m", "-i", str(disk), *top, "::/"), patience=patience, changes=False)
        _check(files, disk, channel, patience)
        return disk.read_bytes()


def _refuse_twins(files: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for path in files:
        twin = seen.setdefault(path.casefold(), path)
        if twin != path:
            said = f"a FAT disk cannot hold both {twin.rpartition('/')[2]} and {path.rpartition('/')[2]}"
            raise Refused(said, "give parameters names that differ in more than case, or use another carrier")


def _check(files: Mapping[str, str], disk: Path, channel: Channel, patience: Patience) -> None:
    """mcopy renames by itself what DOS had other plans for."""
    listed = channel.run(("mdir", "-/", "-b", "-i", str(disk), "::/"), patience=patience, changes=False).stdout
    there = {line.strip().removeprefix("::/") for line in listed.splitlines()}
    lost = sorted(set(files) - there)
    if lost:
        named = ", ".join(path.rpartition("/")[2] for path in lost)
        raise Refused(f"a FAT disk cannot keep the name of {named}", "name it otherwise, or use another carrier")
