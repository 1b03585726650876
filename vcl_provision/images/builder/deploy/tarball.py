"""A machine's root folder as one archive: for a container, a chroot, or a disk made elsewhere."""

from __future__ import annotations

from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.disks.confined import in_private_mounts
from vcl_provision.images.formats.placing import new_files

_PAX = "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"  # else it has tar's process id in it


def write_tarball(
    root: Path, target: Path, *, moment: int, channel: Channel, patience: Patience, overwrite: bool = False
) -> str:
    """Packs the folder with owners, capabilities and holes; the same folder gives the same bytes.

    No time in it is later than `moment` (seconds since 1970). Returns how it is used.
    """
    with new_files(target, overwrite=overwrite) as made:
        argv = (
            *("tar", "--create", "--file", str(made), "--use-compress-program", "gzip -n", "--directory", str(root)),
            *("--format=pax", _PAX, "--sort=name", f"--mtime=@{moment}", "--clamp-mtime", "--numeric-owner"),
            *("--xattrs", "--xattrs-include=*", "--acls", "--sparse", "--one-file-system", "."),
        )
        # Where it has a process id of its own that is always the same: tar names sparse files by it.
        channel.run(in_private_mounts('exec "$@"', *argv), patience=patience, name="tar")
    unpack = f"tar --xattrs --xattrs-include='*' --numeric-owner -xpf {target.name} -C FOLDER"
    return f"unpack it as root: {unpack}; or: docker import {target.name}"
