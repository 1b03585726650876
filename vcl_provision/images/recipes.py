"""The guests that we know how to build: what goes into each, as values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from vcl_provision.model.faults import Refused

GUEST_TREES = Path(__file__).with_name("guest")
MIB, GIB = 1 << 20, 1 << 30
ROOT_LABEL = "vcl-root"


class Initrd(StrEnum):
    """Which first ram disk a guest gets."""

    INITRAMFS_TOOLS = "initramfs-tools"
    """Debian's own, made when the kernel is installed."""
    BUSYBOX = "busybox"
    """Ours: busybox and the modules for a virtio disk, a tenth of the size."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a Debian guest is made that boots with a kernel handed to it, from a disk without partitions.

    `variant` is mmdebstrap's; `trees` are folders of `guest/` laid over the root, later ones over earlier ones;
    `left_out` are path patterns that dpkg does not unpack; `units_on`, `units_off`, `units_masked` are for systemd, if
    it is in; `filesystem` are features for `mke2fs -O`.
    """

    name: str
    os: str
    suite: str
    variant: str
    packages: Sequence[str]
    trees: Sequence[str]
    initrd: Initrd
    kernel_command_line: str
    min_memory_mb: int
    disk_bytes: int
    left_out: Sequence[str] = ()
    units_on: Sequence[str] = ()
    units_off: Sequence[str] = ()
    units_masked: Sequence[str] = ()
    filesystem: Sequence[str] = ()

    @property
    def digest(self) -> str:
        """Names everything that the image follows from but the packages' versions: values, files laid in, our code."""
        whole = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        for path in self._sources():
            whole.update(path.name.encode() + b"\0" + path.read_bytes())
        return whole.hexdigest()

    def _sources(self) -> Iterator[Path]:
        here = Path(__file__).parent
        yield from (here / name for name in ("build.py", "debian.py", "initrd.py"))
        for tree in (*self.trees, "initrd"):
            yield from sorted(path for path in (GUEST_TREES / tree).rglob("*") if path.is_file())


_OS_MODULE_NEEDS = ("openssh-server", "iproute2", "nftables", "procps", "sudo", "passwd", "util-linux", "bsdutils")

DEBIAN12 = Recipe(
    name="debian12",
    os="Debian GNU/Linux 12 (bookworm)",
    suite="bookworm",
    variant="minbase",
    packages=(
        *_OS_MODULE_NEEDS,
        *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "systemd-resolved", "udev", "kmod"),
        *("linux-image-cloud-amd64", "initramfs-tools", "zstd"),
        *("ca-certificates", "iputils-ping", "less", "nano"),
    ),
    trees=("common", "debian12"),
    initrd=Initrd.INITRAMFS_TOOLS,
    kernel_command_line=f"root=LABEL={ROOT_LABEL} rw console=ttyS0 quiet",
    min_memory_mb=512,
    disk_bytes=8 * GIB,
    units_on=("systemd-networkd.service", "systemd-resolved.service", "vcl-first-boot.service"),
    units_off=(
        "systemd-networkd-wait-online.service",  # nothing here waits for it; it would, for two minutes
        *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"),  # a reservation lasts hours
        *("e2scrub_all.timer", "e2scrub_reap.service"),  # for LVM only
    ),
    units_masked=("user@0.service",),  # the management node's logins need no user manager: 5 % of the way to a login
)

SMALL = Recipe(
    name="small",
    os="Debian GNU/Linux 12 (bookworm), busybox init",
    suite="bookworm",
    variant="essential",
    packages=(*_OS_MODULE_NEEDS, "busybox-static", "mount", "kmod", "linux-image-cloud-amd64"),
    trees=("common", "small"),
    initrd=Initrd.BUSYBOX,
    kernel_command_line=f"root=LABEL={ROOT_LABEL} console=ttyS0 quiet",
    min_memory_mb=192,
    disk_bytes=1 * GIB,
    left_out=tuple(f"/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")),
    filesystem=("^has_journal", "^metadata_csum"),
)

RECIPES = {recipe.name: recipe for recipe in (DEBIAN12, SMALL)}


def find_recipe(name: str) -> Recipe:
    """Raises Refused, naming those that there are."""
    if name not in RECIPES:
        raise Refused(f"there is no recipe {name!r}", "there are: " + ", ".join(sorted(RECIPES)))
    return RECIPES[name]
