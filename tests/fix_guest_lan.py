"""A network of the test's own with one real guest on it, and three neighbours: management node, user, stranger.

A bridge, a tap device and dnsmasq on this machine; all of it goes when the test goes, however it goes: the processes
die with this one, devices that a killed test left are removed by the next.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import paramiko
import psutil
from a_cpu import CPU, EMULATED
from a_need import need, need_root
from a_subnet import a_subnet

from vcl_provision.channels.guests import GuestConnections
from vcl_provision.channels.keys import KeyPair, new_host_key, new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.images.carriers.nocloud import nocloud_iso
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.images.repository.loose import read_loose
from vcl_provision.model.faults import Transient
from vcl_provision.model.lab import Address, Computer
from vcl_provision.model.states import ComputerKind, ComputerState

MAC = "52:54:00:76:63:6c"
BRIDGE, TAP = "vcltb", "vcltt"
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


@dataclass(frozen=True, kw_only=True)
class Lan:
    """`management`, `user` and `stranger` are addresses of this machine on it; `guest` is the guest's. (IPv4, IPv6.)"""

    bridge: str
    tap: str
    management: tuple[IPv4Address, IPv6Address]
    user: tuple[IPv4Address, IPv6Address]
    stranger: tuple[IPv4Address, IPv6Address]
    guest: tuple[IPv4Address, IPv6Address]


@dataclass(kw_only=True)
class LanGuest:
    """The guest, running."""

    lan: Lan
    computer: Computer
    connections: GuestConnections
    process: subprocess.Popen[bytes]
    console: Path

    def reach(self, patience: Patience) -> None:
        """Until the management node is in."""

        def ask() -> bool:
            assert self.process.poll() is None, self.console.read_text(errors="replace")[-2000:]
            try:
                self.connections.channel(self.computer, patience=patience.at_most(10))
            except Transient:
                return False
            return True

        patience.until(ask, "the guest", every=0.1)

    def asks(self, command: str, patience: Patience) -> str:
        """What a shell command of root's answers, whatever its status."""
        channel = self.connections.channel(self.computer, patience=patience)
        return channel.run(["sh", "-c", command], patience=patience, accept=range(256)).stdout

    def add_ipv6(self, patience: Patience) -> None:
        """Gives the guest its IPv6 address, if it has not got it yet."""
        command = (
            f"for card in /sys/class/net/e*; do ip addr replace {self.lan.guest[1]}/64 dev ${{card##*/}} nodad; done"
        )
        self.asks(command, patience)

    def listen(self, port: int, patience: Patience) -> None:
        """Starts something that listens there, on all addresses."""
        self.asks(f"busybox nc -ll -p {port} -e true >/dev/null 2>&1 </dev/null &", patience)

    def log_in_with_password(self, name: str, password: str, patience: Patience) -> None:
        """As the management node's address lets anybody try. Raises paramiko's error if it is refused."""
        transport = paramiko.Transport((str(self.lan.guest[0]), 22))
        try:
            transport.start_client(timeout=patience.remaining)
            transport.auth_password(name, password)
        finally:
            transport.close()

    def lets_in(self, source: Address, port: int = 22) -> bool:
        return lets_in(self.address_for(source), port, source=source)

    def shuts_out(self, source: Address, port: int = 22) -> bool:
        return shuts_out(self.address_for(source), port, source=source)

    def address_for(self, source: Address) -> Address:
        """The guest's address of the same family."""
        return self.lan.guest[0] if source.version == 4 else self.lan.guest[1]


def lets_in(address: Address, port: int, *, source: Address) -> bool:
    """Whether a TCP connection from this address of ours comes to be, given time."""
    ends = time.monotonic() + 30
    while not _connects(address, port, source, 5):
        if time.monotonic() > ends:
            return False
    return True


def shuts_out(address: Address, port: int, *, source: Address, seconds: float = 2) -> bool:
    """Whether none comes to be in so many seconds: what is dropped answers nothing."""
    return not _connects(address, port, source, seconds)


def _connects(address: Address, port: int, source: Address, seconds: float) -> bool:
    try:
        with socket.create_connection((str(address), port), timeout=seconds, source_address=(str(source), 0)):
            return True
    except (ConnectionRefusedError, TimeoutError):
        return False


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def remove_leftovers(*prefixes: str) -> None:
    """Removes devices whose names end with the number of a process that is gone, or ours."""
    links = [link.name for prefix in prefixes for link in Path("/sys/class/net").glob(f"{prefix}*")]
    for name in links:
        pid = int("".join(character for character in name if character.isdigit()))
        if pid == os.getpid() or not psutil.pid_exists(pid):
            # One that goes just now, with its namespace or its other end, is as good as removed.
            subprocess.run(["ip", "link", "delete", name], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def a_lan() -> Generator[Lan]:
    need_root()
    need("ip", "dnsmasq", "setpriv", "qemu-system-x86_64", "qemu-img", "ssh")
    with a_subnet() as number, _devices(number) as lan:
        yield lan


@contextmanager
def _devices(number: int) -> Generator[Lan]:
    """The subnet is not one of those that a local lab takes, 10.192.0.0/10."""
    four, six = f"10.113.{number}", f"fd76:636c:{number:x}:"
    sides = {
        name: (IPv4Address(f"{four}.{last}"), IPv6Address(f"{six}:{last}"))
        for last, name in ((1, "management"), (2, "user"), (3, "stranger"), (10, "guest"))
    }
    lan = Lan(bridge=f"{BRIDGE}{os.getpid()}", tap=f"{TAP}{os.getpid()}", **sides)
    remove_leftovers(BRIDGE, TAP)
    try:
        ip("link", "add", lan.bridge, "type", "bridge", "forward_delay", "0")
        ip("tuntap", "add", lan.tap, "mode", "tap")
        ip("link", "set", lan.tap, "master", lan.bridge, "up")
        for ours in (lan.management, lan.user, lan.stranger):
            ip("addr", "add", f"{ours[0]}/24", "dev", lan.bridge)
            ip("addr", "add", f"{ours[1]}/64", "dev", lan.bridge, "nodad")
        ip("link", "set", lan.bridge, "up")
        yield lan
    finally:
        remove_leftovers(BRIDGE, TAP)


@contextmanager
def dhcp(lan: Lan, folder: Path) -> Generator[None]:
    argv = [
        *("dnsmasq", "--conf-file=/dev/null", "--keep-in-foreground", "--port=0", "--user=root"),
        *(f"--interface={lan.bridge}", "--bind-interfaces", "--except-interface=lo"),
        *(f"--dhcp-range={lan.guest[0]},{lan.guest[0]}", f"--dhcp-host={MAC},{lan.guest[0]}", "--dhcp-authoritative"),
        *(f"--dhcp-leasefile={folder / 'leases'}", f"--log-facility={folder / 'dnsmasq.log'}", "--pid-file="),
    ]
    process = subprocess.Popen([*DIES_WITH_US, *argv])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def lan_guest(image: Path, folder: Path) -> Generator[LanGuest]:
    """The image's guest on a network of its own; not yet up."""
    host, key = new_host_key(), new_key()
    with a_lan() as lan, dhcp(lan, folder):
        process = subprocess.Popen([*DIES_WITH_US, *qemu(image, folder, lan, firstboot(host, key))])
        connections = GuestConnections(key=key)
        try:
            yield LanGuest(
                lan=lan,
                computer=a_computer(lan, host),
                connections=connections,
                process=process,
                console=folder / "console.log",
            )
        finally:
            connections.close()
            process.kill()
            process.wait()


def a_computer(lan: Lan, host: KeyPair) -> Computer:
    return Computer(
        id=1,
        name="guest-1",
        kind=ComputerKind.VIRTUALMACHINE,
        state=ComputerState.AVAILABLE,
        provisioning_module="qemu",
        private_address=lan.guest[0],
        host_key=host.public,
    )


def firstboot(host: KeyPair, key: KeyPair) -> FirstBoot:
    return FirstBoot(
        instance="one",
        hostname="booted",
        host_key=host.public,
        host_key_private=host.private,
        management_keys=[key.public],
    )


def qemu(image: Path, folder: Path, lan: Lan, told: FirstBoot) -> Sequence[str]:
    there = read_loose(image)
    assert there.descriptor.boot, "the tests' guests are started with their kernel"
    overlay, seed = folder / "overlay.qcow2", folder / "seed.iso"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(there.disk), "-F", "qcow2", str(overlay)], check=True
    )
    seed.write_bytes(nocloud_iso(told))
    return [
        *("qemu-system-x86_64", "-nodefaults", "-machine", "pc", "-accel", EMULATED, "-cpu", CPU, "-smp", "1"),
        *("-m", str(there.descriptor.min_memory_mb), "-display", "none"),
        *("-kernel", str(there.kernel), "-initrd", str(there.initrd)),
        *("-append", there.descriptor.boot.command_line, "-serial", f"file:{folder / 'console.log'}"),
        *("-netdev", f"tap,id=net,ifname={lan.tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net,mac={MAC}", "-device", "virtio-rng-pci"),
        *("-drive", f"file={overlay},if=virtio,cache=unsafe,format=qcow2"),
        *("-drive", f"file={seed},if=virtio,format=raw,readonly=on"),
    ]
