"""A machine as a libvirt domain: described, and defined so that it is ready to start.

https://libvirt.org/formatdomain.html. libvirt itself is spoken to by virsh.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.deploy.built_machine import BuiltMachine
from vcl_provision.images.builder.deploy.start_script import kvm_works_function
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.formats.placing import new_files
from vcl_provision.model.faults import Refused

DEFAULT_NETWORK = "default"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def write_domain(
    machine: BuiltMachine,
    folder: Path,
    *,
    place: Path,
    network: str = DEFAULT_NETWORK,
    channel: Channel,
    patience: Patience,
    overwrite: bool = False,
) -> str:
    """Lays `NAME.xml` into the folder and returns how it is used. `place` is where the folder will be: libvirt wants
    whole paths. `network` is one of libvirt's, or `bridge:NAME`, or `user` for none of the host's.
    """
    with new_files(folder / f"{machine.name}.xml", overwrite=overwrite) as made:
        kind = "kvm" if kvm_works(channel, patience) else "qemu"
        made.write_text(domain_xml(machine, place=place, kind=kind, network=network), encoding="utf-8")
    return f"virsh define {place / machine.name}.xml && virsh start {machine.name} && virsh console {machine.name}"


def domain_xml(machine: BuiltMachine, *, place: Path, kind: str, network: str = DEFAULT_NETWORK) -> str:
    """The domain's description; `kind` is kvm or qemu (software emulation)."""
    root = Element("domain", type=kind)
    _add(root, "name", machine.name)
    _add(root, "memory", str(machine.memory_mb), unit="MiB")
    _add(root, "vcpu", str(machine.cpus))
    _boot(root, machine, place)
    features = _add(root, "features")
    _add(features, "acpi")
    _add(features, "apic")
    _add(root, "cpu", mode="host-model" if kind == "kvm" else "maximum")
    _add(root, "clock", offset="utc")
    devices = _add(root, "devices")
    for number, disk in enumerate(machine.disks):
        _disk(devices, machine, place / disk.name, number)
    _nic(devices, machine, network)
    _add(_add(devices, "serial", type="pty"), "target", port="0")
    _add(_add(devices, "console", type="pty"), "target", type="serial", port="0")
    channel = _add(devices, "channel", type="unix")
    _add(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    _add(devices, "graphics", type="vnc", autoport="yes", listen="127.0.0.1")
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def define_domain(
    machine: BuiltMachine,
    description: Path,
    *,
    uri: str,
    overwrite: bool = False,
    channel: Channel,
    patience: Patience,
) -> str:
    """Makes it known to libvirt at this URI, from the file that write_domain laid down; returns how it is started.

    Raises Refused if a domain of this name is there and `overwrite` is not set: then it is described anew, keeps its
    UUID, and is as it was until it is started again.
    """
    virsh = ("virsh", "--quiet", "--connect", uri)
    there = _uuid_of(machine.name, virsh, channel, patience)
    if there and not overwrite:
        raise Refused(f"{uri} has a domain {machine.name} already", "say overwrite to replace it, or take another name")
    text = description.read_text(encoding="utf-8")
    if there:
        text = text.replace("</name>", f"</name>\n  <uuid>{there}</uuid>", 1)
    channel.run((*virsh, "define", "/dev/stdin"), patience=patience, stdin=text.encode())
    return f"virsh --connect {uri} start {machine.name}"


def kvm_works(channel: Channel, patience: Patience) -> bool:
    """Where the channel leads to: a few seconds if it does not."""
    script = f"{kvm_works_function()}\nkvm_works"
    ran = channel.run(
        ("sh", "-c", script), patience=patience, name="ask whether KVM works", changes=False, accept=(0, 1)
    )
    return ran.status == 0


def _uuid_of(name: str, virsh: Sequence[str], channel: Channel, patience: Patience) -> str:
    """Empty if there is no such domain. The names are listed first: an error would not say which of many it is."""
    names = channel.run((*virsh, "list", "--all", "--name"), patience=patience, changes=False).stdout.split()
    if name not in names:
        return ""
    said = channel.run((*virsh, "domuuid", name), patience=patience, changes=False).stdout.strip()
    if not _UUID.fullmatch(said):
        raise Refused(f"libvirt says {said!r} as the UUID of {name}")
    return said


def _boot(root: Element, machine: BuiltMachine, place: Path) -> None:
    # Firmware is found by libvirt itself, from what is installed where it runs.
    os = _add(root, "os", **({"firmware": "efi"} if machine.loader is Loader.UEFI else {}))
    _add(os, "type", "hvm", arch="x86_64", machine="q35" if machine.loader is Loader.UEFI else "pc")
    if machine.boot is None:
        if machine.loader is Loader.UEFI:
            _add(_add(os, "firmware"), "feature", enabled="no", name="secure-boot")
        _add(os, "boot", dev="hd")
        return
    _add(os, "kernel", str(place / machine.boot.kernel.name))
    if machine.boot.initrd:
        _add(os, "initrd", str(place / machine.boot.initrd.name))
    _add(os, "cmdline", machine.boot.command_line)


def _disk(devices: Element, machine: BuiltMachine, path: Path, number: int) -> None:
    disk = _add(devices, "disk", type="file", device="disk")
    _add(disk, "driver", name="qemu", type=machine.disk_format.value, discard="unmap")
    _add(disk, "source", file=str(path))
    _add(disk, "target", dev=f"vd{chr(ord('a') + number)}", bus="virtio")


def _nic(devices: Element, machine: BuiltMachine, network: str) -> None:
    kind, _, bridge = network.partition(":")
    if network == "user":
        nic = _add(devices, "interface", type="user")
    elif kind == "bridge" and bridge:
        nic = _add(devices, "interface", type="bridge")
        _add(nic, "source", bridge=bridge)
    else:
        nic = _add(devices, "interface", type="network")
        _add(nic, "source", network=network)
    _add(nic, "mac", address=machine.address)
    _add(nic, "model", type="virtio")


def _add(parent: Element, tag: str, text: str | None = None, /, **attributes: str) -> Element:
    child = SubElement(parent, tag, attributes)
    child.text = text
    return child
