"""What is to be built, as a value: everything that an image follows from but the packages' versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from vcl_provision.images.builder.disks.loaders import Loader

HOST = "host"
"""As a locale, time zone or keymap: this host's own."""


class Initrd(StrEnum):
    """Which first ram disk a guest gets."""

    INITRAMFS_TOOLS = "initramfs-tools"
    """Debian's own."""
    BUSYBOX = "busybox"
    """Ours: busybox and the modules for a virtio disk, a tenth of the size. For boot: direct, root on ext4."""
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where packages come from. Without anything: from where apt on this host takes them.

    `mirrors` are URLs or whole lines of sources.list; `tree` is a folder with `dists/` and `pool/`, `iso` a disc image
    of such a tree: both are trusted as they lie there, signed or not. `keyring` is a file of keys that mirrors sign
    with, if the host's apt does not have them. `guest` is what the guest's own sources.list says: else, the mirrors.
    """

    mirrors: Sequence[str] = ()
    tree: Path | None = None
    iso: Path | None = None
    components: Sequence[str] = ("main",)
    keyring: Path | None = None
    proxy: str = ""
    guest: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Packages:
    """`base` are installed with the system itself, by default what the distribution thinks a guest needs: images of
    the same base share it. `add` come on top, but for `remove`, which go at the end. `debconf` are lines for
    debconf-set-selections. `left_out` are path patterns that dpkg does not unpack.
    """

    base: Sequence[str] = ()
    add: Sequence[str] = ()
    remove: Sequence[str] = ()
    debconf: Sequence[str] = ()
    left_out: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class System:
    """Names and customs. Locale, time zone and keymap may be `host`: this host's own."""

    hostname: str = ""
    domain: str = ""
    locale: str = "C.UTF-8"
    timezone: str = "UTC"
    keymap: str = ""


@dataclass(frozen=True, kw_only=True)
class User:
    """An account. `password` says where it is read from: `file:PATH`, `env:NAME` or `stdin`; a crypt(5) string counts
    as the hash, anything else is hashed here. Without one the account can be entered by key only. `keys` are files of
    public ssh keys, or the lines themselves.
    """

    name: str = ""
    full_name: str = ""
    uid: int | None = None
    gid: int | None = None
    groups: Sequence[str] = ()
    password: str = ""
    locked: bool = False
    keys: Sequence[str] = ()
    shell: str = "/bin/bash"


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """Who is in it. Root has no password unless one is given; `groups` are made first."""

    root_password: str = ""
    root_keys: Sequence[str] = ()
    groups: Mapping[str, int | None] = field(default_factory=dict[str, "int | None"])
    users: Sequence[User] = ()


@dataclass(frozen=True, kw_only=True)
class Network:
    """`addresses` with their prefix length, IPv4 and IPv6; none of a kind: that kind by DHCP or router advertisement.

    `mac` is the hardware address that the machine is deployed with.
    """

    addresses: Sequence[str] = ()
    gateways: Sequence[str] = ()
    dns: Sequence[str] = ()
    mac: str = ""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """`flavour` is the distribution's word (Debian: cloud, generic, rt; Ubuntu: virtual, generic, lowlatency), `none`
    is no kernel at all; `initrd` is the distribution's own unless given. `modules` go into the first ram disk besides
    the usual ones. `command_line` comes after what the boot needs.
    """

    flavour: str = ""
    initrd: Initrd | None = None
    modules: Sequence[str] = ()
    command_line: str = "console=ttyS0 quiet"


@dataclass(frozen=True, kw_only=True)
class Disks:
    """Sizes like `8 GiB`, `512M`; or a layout file for more (several disks, LVM, mount options: docs/disk-layouts.md).

    `devices` are block devices to write to, one per disk, instead of files. `features` are for `mke2fs -O`.
    """

    root: str = "8 GiB"
    swap: str = ""
    opt: str = ""
    table: str = "gpt"
    filesystem: str = "ext4"
    features: Sequence[str] = ()
    layout: Path | None = None
    devices: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A file or folder of this host, and its place in the guest. Mode as in `chmod` (octal), owner as in `chown`."""

    source: Path = Path()
    target: str = ""
    mode: str = ""
    owner: str = "root:root"


@dataclass(frozen=True, kw_only=True)
class Scripts:
    """Programs of one's own, all files on this host.

    `host`: run on this host as root with the guest's tree as first argument; `inside`: run inside the tree, with its
    programs. One that fails, fails the build. `first_boot`: run once in the booted machine, before anyone logs in;
    `first_login`: once, on the terminal of the first to log in.
    """

    host: Sequence[Path] = ()
    inside: Sequence[Path] = ()
    first_boot: Path | None = None
    first_login: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Units:
    """Services that the guest's init starts, leaves out, or cannot start at all, beside the distribution's choice."""

    enabled: Sequence[str] = ()
    disabled: Sequence[str] = ()
    masked: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the machine is deployed with."""

    memory_mb: int = 512
    cpus: int = 1


@dataclass(frozen=True, kw_only=True)
class Output:
    """`formats` of disks: qcow2, raw, vmdk, vdi, vhdx; `deployments`: what is laid beside them to start the machine."""

    formats: Sequence[str] = ("qcow2",)
    deployments: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """All options of a build, by what they are about. Made by hand, from a profile, from options of `vcl build`.

    `purpose` says in a word what it is made for, by which it is found in a repository: server, desktop. `managed`: has
    what a management node relies on (docs/guests.md): reads its first-boot disk, sshd is ready.
    `grow`: the root file system fills the disk that the machine finds when it boots. `source_date_epoch`: no time later
    than this gets into the image, so that the same inputs give the same bytes (https://reproducible-builds.org).
    """

    about: str = ""
    purpose: str = ""
    distribution: str = "debian"
    suite: str = ""
    architecture: str = "amd64"
    variant: str = ""
    managed: bool = True
    grow: bool = True
    boot: Loader = Loader.DIRECT
    source: Source = field(default_factory=Source)
    packages: Packages = field(default_factory=Packages)
    system: System = field(default_factory=System)
    accounts: Accounts = field(default_factory=Accounts)
    network: Network = field(default_factory=Network)
    kernel: Kernel = field(default_factory=Kernel)
    disks: Disks = field(default_factory=Disks)
    files: Sequence[Copied] = ()
    scripts: Scripts = field(default_factory=Scripts)
    units: Units = field(default_factory=Units)
    machine: Machine = field(default_factory=Machine)
    output: Output = field(default_factory=Output)
    source_date_epoch: int | None = None
