"""What a root folder must have in it to live on disks of its own: done once it is complete, before it is written."""

from __future__ import annotations

import os
from pathlib import Path

from vcl_provision.images.builder.disks.fstab import fstab
from vcl_provision.images.builder.disks.grub import boot_folder, find_kernels, grub_config
from vcl_provision.images.builder.disks.layout import Layout
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.builder.disks.placing import place, root_uuid
from vcl_provision.model.faults import Refused

_DEFAULTS = "etc/default/grub.d/vcl.cfg"


def prepare_root(
    layout: Layout, root: Path, *, seed: str, moment: int, loader: Loader = Loader.DIRECT, command_line: str = ""
) -> None:
    """Writes fstab, mount points and the boot loader's menu; no file stays newer than `moment` (seconds since 1970).

    `layout` is the bootable one; `command_line` is what the kernel is told besides where its root is. Raises Refused
    if there is no kernel to boot, or a mount point lies behind a symbolic link.
    """
    for partition in layout.filesystems():
        if partition.mount:
            _inside(root, partition.mount).mkdir(parents=True, exist_ok=True)
    _write(root, "etc/fstab", fstab(layout, seed=seed))
    if loader is not Loader.DIRECT:
        line = f"root=UUID={root_uuid(layout, seed)} {command_line}".strip()
        folder = boot_folder(place(layout, seed=seed))
        _write(root, "boot/grub/grub.cfg", grub_config(find_kernels(root), folder, line))
        if (root / "etc/default/grub").exists():
            _write(root, _DEFAULTS, _grub_defaults(command_line))
    age(root, moment)


def age(root: Path, moment: int) -> None:
    """Sets back what is newer: what a build wrote says nothing about when it ran."""
    latest = moment * 10**9
    for folder, _, files in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118 - tens of thousands
            there = os.lstat(path)
            if there.st_mtime_ns > latest:
                os.utime(path, ns=(latest, latest), follow_symlinks=False)


def _grub_defaults(command_line: str) -> str:
    """Read by update-grub in the machine, when it has got a new kernel."""
    return f'GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT=""\nGRUB_CMDLINE_LINUX="{command_line}"\n'


def _write(root: Path, path: str, content: str) -> None:
    target = _inside(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # a link there would be followed
    target.write_text(content, encoding="utf-8")
    target.chmod(0o644)


def _inside(root: Path, path: str) -> Path:
    """The path under the root. Raises Refused if a link leads out of it: the host's own files are behind that."""
    place = root
    *folders, last = path.strip("/").split("/")
    for name in folders:
        place /= name
        if place.is_symlink():
            inside = f"/{place.relative_to(root)}"
            raise Refused(f"{inside} is a symbolic link, so nothing can be put at {path}", "name what it points to")
    return place / last if last else root
