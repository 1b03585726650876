"""busybox as init, with real OpenSSH, nftables and shadow from Debian's packages: boots in seconds, for tests.

It has no apt, no systemd, no journal and no udev, so that it shows what of the builder is a distribution's own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from vcl_provision.images.builder.distributions.debian import MANAGED, MODULES, Debian
from vcl_provision.images.builder.distributions.distribution import Guest
from vcl_provision.images.builder.initrd import busybox_initrd
from vcl_provision.images.builder.layouts import kinds_of, layout_of
from vcl_provision.images.builder.spec import BuildSpec, Initrd
from vcl_provision.images.builder.trees import GUEST_TREES

STATIC_NETWORK = "etc/vcl/network"
"""Commands of busybox's `ip`, which rcS runs in the place of DHCP."""


class BusyBox(Debian):
    """See the module."""

    name = "busybox"
    suites = ("bookworm",)
    initrd = Initrd.BUSYBOX

    def variant(self, _spec: BuildSpec) -> str:
        return "essential"

    def problems(self, spec: BuildSpec) -> Iterator[str]:
        yield from super().problems(spec)
        if spec.kernel.initrd is Initrd.INITRAMFS_TOOLS:
            yield "busybox boots with kernel.initrd: busybox (or none)"
        if spec.packages.remove:
            yield "a busybox system has no apt to remove packages with: leave them out of packages.base"
        if spec.system.keymap:
            yield "a busybox system has no console to set a keymap for"
        if any((spec.units.enabled, spec.units.disabled, spec.units.masked)):
            yield "a busybox system has no units: its services are in /etc/inittab"

    def base_packages(self, spec: BuildSpec) -> Sequence[str]:
        kernel = self.kernel_packages(spec) if spec.kernel.flavour != "none" else ()
        return (*MANAGED, "busybox-static", "mount", "kmod", *kernel)

    def configure(self, guest: Guest) -> None:
        if guest.spec.managed:
            guest.tree.lay(GUEST_TREES / "common")
        guest.tree.lay(GUEST_TREES / "small")
        guest.tree.remove("etc/resolv.conf")
        guest.tree.link("usr/sbin/init", "../bin/busybox")
        commands = list(_static(guest.spec))
        if commands:
            guest.tree.write(STATIC_NETWORK, "".join(f"{line}\n" for line in commands))
        if guest.spec.network.dns:
            guest.tree.write("etc/resolv.conf", "".join(f"nameserver {one}\n" for one in guest.spec.network.dns))

    def make_initrd(self, guest: Guest, version: str) -> None:
        more = (*guest.spec.kernel.modules, *sorted(MODULES & kinds_of(guest.spec)))
        root = layout_of(guest.spec).root.filesystem
        written = busybox_initrd(guest.tree.root, version, root_type=root, more_modules=more)
        guest.tree.write(f"boot/initrd.img-{version}", written, 0o600)

    def command_line(self, spec: BuildSpec, root: str) -> str:
        return f"root={root} {spec.kernel.command_line}".strip()

    def system_name(self, guest: Guest) -> str:
        return super().system_name(guest) + ", busybox init"

    def finished(self, guest: Guest) -> None:
        """Nothing is cached."""


def _static(spec: BuildSpec) -> Iterator[str]:
    for address in spec.network.addresses:
        yield f"ip addr add {address} dev eth0"
    if spec.network.addresses:
        yield "ip link set eth0 up"
    for gateway in spec.network.gateways:
        family = "-6 " if ipaddress.ip_address(gateway).version == 6 else ""
        yield f"ip {family}route add default via {gateway} dev eth0"
