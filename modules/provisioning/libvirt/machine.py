"""The description of a machine: a typed value, and the XML that libvirt wants of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from xml.etree.ElementTree import Element, SubElement, fromstring, register_namespace, tostring

from vcl_provision.drivers import FW_CFG_NAME, Refused

from .binding import libvirt
from .connections import found
from .hardware import Hardware

NAMESPACE = "urn:vcl_provision:machine:1"
register_namespace("vcl", NAMESPACE)
_OTHERS = "cdefghijklmnopqrstuvwxyz"
"""Letters of disks after the system's and the one that says who the machine is."""


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
class Kernel:
    """A kernel that the hypervisor starts itself; paths on the VM host. `initrd` is empty if it needs none."""

    kernel: str
    initrd: str
    command_line: str


@dataclass(frozen=True, kw_only=True)
class Attached:
    """A disk as the machine has it: a file of the VM host, its own or, if it is only read, everybody's."""

    path: str
    format: str = "qcow2"
    readonly: bool = False


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What brings a machine what it is told: a read-only disk, a file handed over by QEMU, strings, a serial number.

    Paths are the VM host's. `optical`: a CD where the bus has them. Anybody there can see strings and serial number.
    """

    seed: str = ""
    optical: bool = False
    fw_cfg: str = ""
    oem_strings: Sequence[str] = ()
    serial: str = ""


TRANSLATED_MIB = 64
"""What an emulated machine keeps of the code that it translated. QEMU's own limit is 1 GiB; with so much a restart
is slow, now and then by minutes: the new kernel is unpacked over pages of which much translated code is kept, and at
each word written there all of it is looked through (seen with QEMU 7.2: 7 to 14 s and more, where this takes 6.5)."""


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
    disks: Sequence[Attached]
    carried: Carried
    network: str
    mac: str
    console: str
    hardware: Hardware
    boot: Kernel | None = None


def describe(machine: Machine) -> str:
    """The domain's XML; https://libvirt.org/formatdomain.html."""
    root = Element("domain", type="kvm" if machine.accelerator == "kvm" else "qemu")
    _add(root, "name", machine.name)
    SubElement(_add(root, "metadata"), f"{{{NAMESPACE}}}machine", {k: str(v) for k, v in asdict(machine.mark).items()})
    _add(root, "memory", str(machine.memory_mb + machine.hardware.extra_memory_mb), unit="MiB")
    _add(root, "vcpu", str(machine.cpus))
    _boot(root, machine)
    _sysinfo(root, machine.carried)
    features = _add(root, "features")
    _add(features, "acpi")
    _add(features, "apic")
    if machine.accelerator == "tcg":
        _add(_add(features, "tcg"), "tb-cache", str(TRANSLATED_MIB), unit="MiB")
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
    """A disk that a machine really has and writes to: its file, and the file beneath it."""

    path: str
    backing: str


def disks_of(description: str) -> list[Disk]:
    """Reads them from a domain's description, in its order."""
    found_there: list[Disk] = []
    for disk in fromstring(description).iterfind("./devices/disk[@device='disk']"):  # noqa: S314 - libvirt wrote it
        source, backing = disk.find("source"), disk.find("backingStore/source")
        if disk.find("readonly") is None and source is not None:
            beneath = "" if backing is None else backing.get("file", "")
            found_there.append(Disk(path=source.get("file", ""), backing=beneath))
    return found_there


def disk_of(description: str) -> Disk:
    """The system's, which is the first. Raises Refused if the machine has no disk in a file."""
    there = disks_of(description)
    if not there:
        raise Refused("the machine has no disk", "load it again")
    return there[0]


def _boot(root: Element, machine: Machine) -> None:
    os = _add(root, "os")
    _add(os, "type", "hvm", machine=machine.hardware.machine)
    if machine.carried.oem_strings or machine.carried.serial:
        _add(os, "smbios", mode="sysinfo")
    if machine.boot is None:
        _add(os, "boot", dev="hd")
        return
    _add(os, "kernel", machine.boot.kernel)
    if machine.boot.initrd:
        _add(os, "initrd", machine.boot.initrd)
    _add(os, "cmdline", machine.boot.command_line)


def _sysinfo(root: Element, carried: Carried) -> None:
    if carried.fw_cfg:
        _add(_add(root, "sysinfo", type="fwcfg"), "entry", name=FW_CFG_NAME, file=carried.fw_cfg)
    if not carried.oem_strings and not carried.serial:
        return
    smbios = _add(root, "sysinfo", type="smbios")
    if carried.serial:
        _add(_add(smbios, "system"), "entry", carried.serial, name="serial")
    if carried.oem_strings:
        strings = _add(smbios, "oemStrings")
        for string in carried.oem_strings:
            _add(strings, "entry", string)


def _devices(devices: Element, machine: Machine) -> None:
    system, *others = machine.disks
    _disk(devices, machine, system, letter="a")
    _seed_disk(devices, machine)
    for letter, disk in zip(_OTHERS, others, strict=False):
        _disk(devices, machine, disk, letter=letter)
    _nic(devices, machine)
    _console(devices, machine)
    channel = _add(devices, "channel", type="unix")
    _add(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    _add(devices, "memballoon", model="virtio")
    _video(devices, machine.hardware.video)


def _disk(devices: Element, machine: Machine, attached: Attached, *, letter: str) -> None:
    disk = _add(devices, "disk", type="file", device="disk")
    _add(disk, "driver", name="qemu", type=attached.format, cache=machine.hardware.cache, discard="unmap")
    _add(disk, "source", file=attached.path)
    _add(disk, "target", dev=f"{_letters(machine.hardware.bus)}{letter}", bus=machine.hardware.bus)
    if attached.readonly:
        _add(disk, "readonly")


def _seed_disk(devices: Element, machine: Machine) -> None:
    """A plain read-only disk where the guest has virtio anyway, else a CD on the bus that it boots from."""
    bus, carried = machine.hardware.bus, machine.carried
    if not carried.seed:
        return
    disk = _add(devices, "disk", type="file", device="cdrom" if carried.optical and bus != "virtio" else "disk")
    _add(disk, "driver", name="qemu", type="raw")
    _add(disk, "source", file=carried.seed)
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
