"""Debian with systemd."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vcl_provision.images.builder.disks.layout import FileSystem
from vcl_provision.images.builder.distributions import networkd
from vcl_provision.images.builder.distributions.apt import TOOLS, AptJob, install_packages
from vcl_provision.images.builder.distributions.distribution import Distribution, Guest
from vcl_provision.images.builder.host import BuildHost
from vcl_provision.images.builder.layouts import kinds_of
from vcl_provision.images.builder.sources import sources_of
from vcl_provision.images.builder.spec import BuildSpec, Initrd
from vcl_provision.images.builder.trees import GUEST_TREES

MANAGED = ("openssh-server", "iproute2", "nftables", "procps", "sudo", "passwd", "util-linux", "bsdutils")
"""What a management node's OS module uses in a guest."""

_SYSTEM = ("systemd", "systemd-sysv", "libpam-systemd", "dbus", "systemd-resolved", "udev", "kmod")
_QUIET_OFF = (
    "systemd-networkd-wait-online.service",  # nothing here waits for it; it would, for two minutes
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"),  # a reservation lasts hours
    *("e2scrub_all.timer", "e2scrub_reap.service"),  # for LVM only
)
_QUIET_MASKED = ("user@0.service",)  # the management node's logins need no user manager: 5 % of the way to a login
_FIREWALL = ("nf_tables", "nft_ct")
"""Modules that the management node's first command needs: there by then, it waits for none."""
_TRACES = (
    "etc/apt/apt.conf.d/99mmdebstrap",  # may hold the host's proxy
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "var/cache/apt/*.bin",
    "var/cache/debconf/*-old",
    "var/lib/dpkg/*-old",
)
_PROGRAMS = {FileSystem.XFS: "xfsprogs", FileSystem.BTRFS: "btrfs-progs", FileSystem.LVM: "lvm2"}
"""What a machine needs for such disks. ext4's are in the base if anything is to grow."""
MODULES = {FileSystem.XFS, FileSystem.BTRFS}
"""What the kernel has no driver for in itself, and the first ram disk has to bring."""


class Debian(Distribution):
    """Any suite; `flavour` is what stands between linux-image- and the architecture: cloud, rt; generic for neither."""

    name = "debian"
    origin = "Debian"
    suites: Sequence[str] = ("bookworm", "trixie")
    flavour = "cloud"
    initrd = Initrd.INITRAMFS_TOOLS

    def settled(self, spec: BuildSpec) -> BuildSpec:
        flavour = spec.kernel.flavour or self.flavour
        initrd = Initrd.NONE if flavour == "none" else spec.kernel.initrd or self.initrd
        kernel = replace(spec.kernel, flavour=flavour, initrd=initrd)
        return replace(
            spec, suite=spec.suite or self.suites[0], variant=spec.variant or self.variant(spec), kernel=kernel
        )

    def variant(self, _spec: BuildSpec) -> str:
        """mmdebstrap's word for what a system consists of before anything is asked for."""
        return "minbase"

    def problems(self, spec: BuildSpec) -> Iterator[str]:
        if spec.architecture != "amd64":
            yield f"{self.name} is built for amd64 here, not for {spec.architecture}"
        if spec.suite and not spec.suite.replace("-", "").isalnum():
            yield f"{spec.suite!r} cannot be a suite"

    def tools(self, spec: BuildSpec) -> Mapping[str, str]:  # noqa: ARG002 - others may ask for more
        return TOOLS

    def layers(self, spec: BuildSpec) -> Sequence[Sequence[str]]:
        base = spec.packages.base or self.base_packages(spec)
        more = {*self._asked_for(spec), *spec.packages.add} - set(base) - set(spec.packages.remove)
        return [base, sorted(more)] if more else [base]

    def base_packages(self, spec: BuildSpec) -> Sequence[str]:
        """What a guest needs to boot, to be reached and to be managed."""
        managed = MANAGED if spec.managed else ()
        growing = ("fdisk", "e2fsprogs") if spec.grow else ()
        kernel = (*self.kernel_packages(spec), "initramfs-tools", "zstd") if spec.kernel.flavour != "none" else ()
        return (*managed, *_SYSTEM, *growing, *kernel)

    def kernel_packages(self, spec: BuildSpec) -> Sequence[str]:
        """The package that follows the suite's newest kernel."""
        flavour = "" if spec.kernel.flavour == "generic" else f"{spec.kernel.flavour}-"
        return (f"linux-image-{flavour}{spec.architecture}",)

    def _asked_for(self, spec: BuildSpec) -> Iterator[str]:
        """Packages that other options of the spec need."""
        if spec.accounts.root_keys or any(user.keys for user in spec.accounts.users):
            yield "openssh-server"
        if spec.system.locale.partition(".")[0] not in {"C", "POSIX"}:
            yield "locales"
        if spec.system.keymap:
            yield from ("console-setup", "keyboard-configuration", "kbd")
        kinds = kinds_of(spec)
        yield from (package for kind, package in _PROGRAMS.items() if kind in kinds)

    def install(
        self,
        spec: BuildSpec,
        packages: Sequence[str],
        *,
        onto: Path | None,
        tree: Path | None,
        into: Path,
        host: BuildHost,
    ) -> None:
        sources = sources_of(
            spec, self.origin, self.mirror_suites(spec.suite), tree, channel=host.channel, patience=host.patience
        )
        job = AptJob(spec=spec, sources=sources, packages=packages, onto=onto, into=into)
        install_packages(job, host)

    def mirror_suites(self, suite: str) -> Sequence[str]:
        """What one mirror of this distribution has. Debian's security fixes lie elsewhere."""
        return (suite,)

    def configure(self, guest: Guest) -> None:
        for pattern in _TRACES:
            guest.tree.remove(pattern)
        if guest.spec.managed:
            guest.tree.lay(GUEST_TREES / "common")
            if guest.spec.kernel.flavour != "none":
                guest.tree.write("etc/modules-load.d/vcl.conf", "".join(f"{name}\n" for name in _FIREWALL))
        guest.tree.lay(GUEST_TREES / "systemd")
        guest.tree.write("etc/machine-id", "")  # made at each clone's first boot
        guest.tree.link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
        networkd.configure(guest)
        self._sources_list(guest)
        self._locale(guest)
        self._keymap(guest)
        self._units(guest)

    def _sources_list(self, guest: Guest) -> None:
        """What the build took packages from stays, unless the guest is to have others."""
        spec, host = guest.spec, guest.inside.host
        local = spec.source.tree or spec.source.iso
        if local or spec.source.guest:
            sources = sources_of(
                spec, self.origin, self.mirror_suites(spec.suite), local, channel=host.channel, patience=host.patience
            )
            guest.tree.write("etc/apt/sources.list", "".join(f"{line}\n" for line in sources.guest))

    def _locale(self, guest: Guest) -> None:
        locale = guest.spec.system.locale
        guest.tree.write("etc/default/locale", f"LANG={locale}\n")
        if locale.partition(".")[0] not in {"C", "POSIX"}:
            charset = locale.partition(".")[2].partition("@")[0] or "ISO-8859-1"
            guest.tree.write("etc/locale.gen", f"{locale} {charset}\n")
            guest.inside.run("locale-gen")

    def _keymap(self, guest: Guest) -> None:
        if guest.spec.system.keymap:
            layout, _, variant = guest.spec.system.keymap.partition(" ")
            words = (
                f'XKBMODEL="pc105"\nXKBLAYOUT="{layout}"\nXKBVARIANT="{variant}"\nXKBOPTIONS=""\nBACKSPACE="guess"\n'
            )
            guest.tree.write("etc/default/keyboard", words)

    def _units(self, guest: Guest) -> None:
        """systemctl only moves links in a tree that runs no systemd."""
        units = guest.spec.units
        on = ["systemd-networkd.service", "systemd-resolved.service", *units.enabled]
        if guest.spec.managed:
            on.append("vcl-first-boot.service")
        for verb, names in (
            ("disable", (*_QUIET_OFF, *units.disabled)),
            ("enable", on),
            ("mask", (*_QUIET_MASKED, *units.masked)),
        ):
            there = [name for name in names if verb == "mask" or _unit_is_there(guest, name)]
            guest.inside.run("systemctl", verb, *there)

    def remove(self, guest: Guest, packages: Sequence[str]) -> None:
        guest.inside.run("apt-get", "-q", "-y", "--purge", "autoremove", *packages)

    def make_initrd(self, guest: Guest, version: str) -> None:
        more = [*guest.spec.kernel.modules, *sorted(MODULES & kinds_of(guest.spec))]
        if more:
            guest.tree.append("etc/initramfs-tools/modules", "".join(f"{name}\n" for name in more))
        guest.inside.run("update-initramfs", "-c", "-k", version, INITRD="Yes")

    def packages(self, guest: Guest) -> str:
        form = "${Package}\t${Version}\t${Architecture}\n"
        text = guest.inside.host.ask("dpkg-query", f"--root={guest.tree.root}", "-W", "-f", form)
        return "".join(sorted(text.splitlines(keepends=True)))

    def finished(self, guest: Guest) -> None:
        """Caches made from /usr (ld.so, hwdb, journal catalogue) are fresh: else each clone makes them again."""
        for folder in ("etc", "var"):
            stamp = guest.tree.write(f"{folder}/.updated", "")
            shutil.copystat(guest.tree.place("usr"), stamp)


def _unit_is_there(guest: Guest, name: str) -> bool:
    return any(guest.tree.exists(f"{folder}/{name}") for folder in ("usr/lib/systemd/system", "etc/systemd/system"))
