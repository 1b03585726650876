"""The description of a machine: a typed value, and the XML that libvirt wants of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from xml.etree.ElementTree import Element, SubElement, fromstring, register_namespace, tostring

from vcl_provision.drivers import Refused

from .binding import libvirt
from .connections import found
from .hardware import Hardware

NAMESPACE = "urn:vcl_provision:machine:1"
register_namespace("vcl", NAMESPACE)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What we write on a machine, where nobody inside can reach it: whose it is, and what was loaded.

    `generation` is the load's own name, `host_key` the public key that the guest was given.
    """

    owner: str
    revision_id: int
    revision: str
    generation: str
    host_key: str


@dataclass(frozen=True, kw_only=True)
class DirectBoot:
    """A kernel that the hypervisor starts itself; paths on the VM host."""

    kernel: str
    initrd: str
    command_line: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """All that makes a machine. Paths are the VM host's; memory in MiB; `network` a libvirt network, or `bridge:NAME`.

    `accelerator` is kvm or tcg. Without `boot` the machine boots from its disk. `console` is its log, if it has one.
    """

    name: str
    mark: Mark
    accelerator: str
    memory_mb: int
    cpus: int
    disk: str
    seed: str
    network: str
    mac: str
    console: str
    hardware: Hardware
    boot: DirectBoot | None = None


def describe(machine: Machine) -> str:
    """The domain's XML; https://libvirt.org/formatdomain.html."""
    root = Element("domain", type="kvm" if machine.accelerator == "kvm" else "qemu")
    _add(root, "name", machine.name)
    SubElement(_add(root, "metadata"), f"{{{NAMESPACE}}}machine", {k: str(v) for k, v in asdict(machine.mark).items()})
    _add(root, "memory", str(machine.memory_mb + machine.hardware.extra_memory_mb), unit="MiB")
    _add(root, "vcpu", str(machine.cpus))
    _boot(root, machine)
    features = _add(root, "features")
    _add(features, "acpi")
    _add(features, "apic")
    _add(root, "cpu", mode=machine.hardware.cpu_mode or ("host-model" if machine.accelerator == "kvm" else "maximum"))
    _add(root, "clock", offset="utc")
    _add(root, "on_crash", "destroy")
    _devices(_add(root, "devices"), machine)
    return tostring(root, encoding="unicode")


def mark_of(domain: libvirt.virDomain) -> Mark | None:
    """What we once wrote on the machine; None if we did not, or not so that it can be read."""
    kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    text = found(lambda: domain.metadata(kind, NAMESPACE), libvirt.VIR_ERR_NO_DOMAIN_METADATA)
    return read_mark(text) if text else None


def read_mark(text: str) -> Mark | None:
    """See `mark_of`."""
    said = dict(fromstring(text).attrib)  # noqa: S314 - libvirt wrote it
    names = {field.name for field in fields(Mark)}
    if set(said) != names or not said["revision_id"].isdecimal():
        return None
    number = int(said.pop("revision_id"))
    return Mark(revision_id=number, **said)


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The system disk that a machine really has: its file, and the file beneath it."""

    path: str
    backing: str


def disk_of(description: str) -> Disk:
    """Reads it from a domain's description. Raises Refused if the machine has no disk in a file."""
    for disk in fromstring(description).iterfind("./devices/disk[@device='disk']"):  # noqa: S314 - libvirt wrote it
        source, backing = disk.find("source"), disk.find("backingStore/source")
        if disk.find("readonly") is None and source is not None:
            return Disk(path=source.get("file", ""), backing="" if backing is None else backing.get("file", ""))
    raise Refused("the machine has no disk", "load it again")


def _boot(root: Element, machine: Machine) -> None:
    os = _add(root, "os")
    _add(os, "type", "hvm", machine=machine.hardware.machine)
    if machine.boot is None:
        _add(os, "boot", dev="hd")
        return
    _add(os, "kernel", machine.boot.kernel)
    _add(os, "initrd", machine.boot.initrd)
    _add(os, "cmdline", machine.boot.command_line)


def _devices(devices: Element, machine: Machine) -> None:
    _system_disk(devices, machine)
    _seed_disk(devices, machine)
    _nic(devices, machine)
    _console(devices, machine)
    channel = _add(devices, "channel", type="unix")
    _add(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    _add(devices, "memballoon", model="virtio")
    _video(devices, machine.hardware.video)


def _system_disk(devices: Element, machine: Machine) -> None:
    disk = _add(devices, "disk", type="file", device="disk")
    _add(disk, "driver", name="qemu", type="qcow2", cache=machine.hardware.cache, discard="unmap")
    _add(disk, "source", file=machine.disk)
    _add(disk, "target", dev=f"{_letters(machine.hardware.bus)}a", bus=machine.hardware.bus)


def _seed_disk(devices: Element, machine: Machine) -> None:
    """A plain read-only disk where the guest has virtio anyway, else a CD on the bus that it boots from."""
    bus = machine.hardware.bus
    disk = _add(devices, "disk", type="file", device="disk" if bus == "virtio" else "cdrom")
    _add(disk, "driver", name="qemu", type="raw")
    _add(disk, "source", file=machine.seed)
    _add(disk, "target", dev=f"{_letters(bus)}b", bus=bus)
    _add(disk, "readonly")


def _nic(devices: Element, machine: Machine) -> None:
    kind, _, bridge = machine.network.partition(":")
    if kind == "bridge" and bridge:
        nic = _add(devices, "interface", type="bridge")
        _add(nic, "source", bridge=bridge)
    else:
        nic = _add(devices, "interface", type="network")
        _add(nic, "source", network=machine.network)
    _add(nic, "mac", address=machine.mac)
    _add(nic, "model", type=machine.hardware.nic_model)


def _console(devices: Element, machine: Machine) -> None:
    if machine.hardware.console == "none":
        return
    serial = _add(devices, "serial", type="pty")
    _add(serial, "target", port="0")
    if machine.hardware.console == "log":
        _add(serial, "log", file=machine.console, append="off")


def _video(devices: Element, model: str) -> None:
    if model == "none":
        return
    _add(devices, "graphics", type="vnc", autoport="yes", listen="127.0.0.1")
    _add(_add(devices, "video"), "model", type=model)


def _letters(bus: str) -> str:
    return {"virtio": "vd", "ide": "hd"}.get(bus, "sd")


def _add(parent: Element, tag: str, text: str | None = None, /, **attributes: str) -> Element:
    child = SubElement(parent, tag, attributes)
    child.text = text
    return child
