"""A machine's .vbox, the settings file that `VBoxManage registervm` takes as it is.

Source: what VirtualBox 7.2 writes itself (settings version 1.19, which every 7.x reads).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, register_namespace, tostring

from vcl_provision.images.formats import vdi
from vcl_provision.images.formats.machine import Controller, Firmware, Machine, Nic, NicModel, slots
from vcl_provision.images.formats.placing import new_files

SETTINGS = "1.19-linux"
PROPERTIES = "/vcl/"
"""Before the name of each property: `VBoxControl guestproperty get /vcl/NAME` inside the guest."""

_XMLNS = "http://www.virtualbox.org/"
_VIRTUALBOX_RANGE = "080027"
_CONTROLLERS = {
    Controller.SATA: ("SATA", "AHCI", 30),
    Controller.SCSI: ("SCSI", "LsiLogic", 16),
    Controller.IDE: ("IDE", "PIIX4", 2),
}
"""The name of the only controller, its type, its ports."""

_NICS = {NicModel.E1000: "82540EM", NicModel.VMXNET3: "82540EM", NicModel.VIRTIO: "virtio"}
_NETWORKS = {"bridged": "BridgedInterface", "hostonly": "HostOnlyInterface", "intnet": "InternalNetwork"}


def write_vbox(machine: Machine, disks: Sequence[Path], target: Path, *, overwrite: bool = False) -> None:
    """Writes the settings of a machine whose disks are these VDI files, in their order.

    Paths are kept relative where the disks lie beside `target`, so the folder can be moved before it is registered.
    A network is `nat`, `bridged:INTERFACE`, `hostonly:INTERFACE` or `intnet:NAME`; any other name becomes nat.
    Raises Refused for a disk that is no VDI, or more disks than VirtualBox has places.
    """
    images = {str(vdi.read_uuid(disk)): _location(disk, target) for disk in disks}
    root = Element(f"{{{_XMLNS}}}VirtualBox", version=SETTINGS)
    described = machine_element(machine, list(images), namespace=_XMLNS, name="Machine")
    described.insert(0, _registry(images))
    if machine.note:
        described.insert(0, _text(f"{{{_XMLNS}}}Description", machine.note))
    root.append(described)
    register_namespace("", _XMLNS)
    indent(root)
    with new_files(target, overwrite=overwrite) as made:
        made.write_bytes(b'<?xml version="1.0"?>\n' + tostring(root, encoding="utf-8") + b"\n")


def machine_element(machine: Machine, images: Sequence[str], *, namespace: str, name: str) -> Element:
    """The Machine of a settings file, and of an OVF for VirtualBox. `images`: the UUIDs of its disks, in order."""
    if machine.controller is Controller.PVSCSI:
        machine = replace(machine, controller=Controller.SCSI)
    return _Writer(namespace).machine(machine, images, name)


class _Writer:
    """Elements of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def machine(self, machine: Machine, images: Sequence[str], name: str) -> Element:
        identity = uuid.uuid5(uuid.NAMESPACE_OID, "/".join((machine.name, *images)))
        told = {"uuid": f"{{{identity}}}", "name": machine.name, "OSType": machine.os.virtualbox}
        root = Element(name if name.startswith("{") else f"{{{self._namespace}}}{name}", told)
        hardware = self._add(root, "Hardware")
        self._add(self._add(hardware, "CPU", count=machine.cpus), "PAE", enabled="true")
        self._add(hardware, "Memory", RAMSize=machine.memory_mb)
        self._add(hardware, "Display", controller="VMSVGA", VRAMSize=16)
        self._add(hardware, "Firmware", **({"type": "EFI"} if machine.firmware is Firmware.EFI else {}))
        self._add(self._add(hardware, "BIOS"), "IOAPIC", enabled="true")
        self._network(hardware, machine.nics, identity)
        self._add(hardware, "AudioAdapter", enabled="false", driver="Null")
        self._properties(hardware, machine.properties)
        self._storage(hardware, machine, images)
        self._add(hardware, "RTC", localOrUTC="UTC")
        return root

    def _network(self, hardware: Element, nics: Sequence[Nic], identity: uuid.UUID) -> None:
        network = self._add(hardware, "Network")
        for slot, nic in enumerate(nics):
            mac = nic.mac.replace(":", "").upper() or _own_mac(identity, slot)
            told = {"type": _NICS[nic.model], "MACAddress": mac}
            adapter = self._add(network, "Adapter", slot=slot, enabled="true", **told)
            kind, _, name = nic.network.partition(":")
            if kind.lower() in _NETWORKS and name:
                self._add(adapter, _NETWORKS[kind.lower()], name=name)
            else:
                self._add(adapter, "NAT")

    def _properties(self, hardware: Element, properties: Mapping[str, str]) -> None:
        listed = self._add(hardware, "GuestProperties")
        for name, value in properties.items():
            self._add(listed, "GuestProperty", name=PROPERTIES + name, value=value, timestamp=0, flags="")

    def _storage(self, hardware: Element, machine: Machine, images: Sequence[str]) -> None:
        name, kind, ports = _CONTROLLERS[machine.controller]
        told = {"name": name, "type": kind, "PortCount": ports, "useHostIOCache": "false", "Bootable": "true"}
        controller = self._add(self._add(hardware, "StorageControllers"), "StorageController", **told)
        for slot, image in zip(slots(machine), images, strict=True):
            ide = machine.controller is Controller.IDE
            port, device = (slot.controller, slot.unit) if ide else (slot.unit, 0)
            attached = self._add(controller, "AttachedDevice", type="HardDisk", port=port, device=device)
            self._add(attached, "Image", uuid=f"{{{image}}}")

    def _add(self, parent: Element, name: str, /, **attributes: object) -> Element:
        told = {key: str(value) for key, value in attributes.items()}
        return SubElement(parent, f"{{{self._namespace}}}{name}", told)


def _registry(images: Mapping[str, str]) -> Element:
    registry = Element(f"{{{_XMLNS}}}MediaRegistry")
    disks = SubElement(registry, f"{{{_XMLNS}}}HardDisks")
    for identity, location in images.items():
        told = {"uuid": f"{{{identity}}}", "location": location, "format": "VDI", "type": "Normal"}
        SubElement(disks, f"{{{_XMLNS}}}HardDisk", told)
    return registry


def _own_mac(identity: uuid.UUID, slot: int) -> str:
    """Where none is given: VirtualBox makes none for a machine that it registers, and would not start it."""
    return _VIRTUALBOX_RANGE + uuid.uuid5(identity, str(slot)).hex[:6].upper()


def _location(disk: Path, target: Path) -> str:
    return disk.name if disk.absolute().parent == target.absolute().parent else str(disk.absolute())


def _text(name: str, text: str) -> Element:
    element = Element(name)
    element.text = text
    return element
