"""The descriptor of an OVF, written: for VMware and for VirtualBox, which both read the same file.

Source: DMTF DSP0243 1.1, the version that both import; `vmw:` and `vbox:` elements are marked as not required, so each
passes over those of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import uuid4
from xml.etree.ElementTree import Element, SubElement, indent, register_namespace, tostring

from vcl_provision.images.formats.hardware import DISK, ETHERNET, IDE, MEMORY, PROCESSORS, SATA, SCSI
from vcl_provision.images.formats.machine import Controller, Firmware, Machine, Nic, NicModel, slots
from vcl_provision.images.formats.vbox import SETTINGS, machine_element

HARDWARE = 13
"""VMware's hardware version that is written: ESXi 6.5 and everything after it takes it."""

STREAM_URI = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"

_NAMES = {
    "ovf": "http://schemas.dmtf.org/ovf/envelope/1",
    "rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    "vssd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    "vmw": "http://www.vmware.com/schema/ovf",
    "vbox": "http://www.virtualbox.org/ovf/machine",
}


class Family(StrEnum):
    """Whose hardware a descriptor speaks of. VirtualBox takes both, VMware only its own."""

    VMWARE = "vmware"
    VIRTUALBOX = "virtualbox"


_SYSTEM_TYPES = {Family.VMWARE: f"vmx-{HARDWARE}", Family.VIRTUALBOX: "virtualbox-2.2"}
_CONTROLLERS = {
    Controller.IDE: (IDE, "", ""),
    Controller.SCSI: (SCSI, "lsilogic", "lsilogic"),
    Controller.PVSCSI: (SCSI, "VirtualSCSI", "lsilogic"),
    Controller.SATA: (SATA, "vmware.sata.ahci", "AHCI"),
}
"""CIM's resource type, then the subtype that VMware has for it, and VirtualBox."""

_NICS = {
    NicModel.E1000: ("E1000", "E1000"),
    NicModel.VMXNET3: ("VmxNet3", "E1000"),
    NicModel.VIRTIO: ("VmxNet3", "virtio"),
}


@dataclass(frozen=True, kw_only=True)
class DiskFile:
    """A disk's file in the package: its size in bytes, and the UUID that VirtualBox is to know it by."""

    name: str
    bytes: int
    uuid: str = field(default_factory=lambda: str(uuid4()))


def describe(machine: Machine, files: Sequence[DiskFile], family: Family) -> bytes:
    """The .ovf of a machine whose disks lie in these files, in the same order, as streamOptimized VMDK."""
    for prefix, uri in _NAMES.items():
        register_namespace(prefix, uri)
    root = Element(_name("ovf:Envelope"), {_name("ovf:version"): "1.0"})
    _references(root, files)
    _disks(root, machine, files)
    _networks(root, machine.nics)
    _system(root, machine, files, family)
    indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode").encode() + b"\n"


def _references(root: Element, files: Sequence[DiskFile]) -> None:
    references = _add(root, "ovf:References")
    for n, file in enumerate(files, 1):
        told = {"ovf:id": f"file{n}", "ovf:href": file.name, "ovf:size": str(file.bytes)}
        _add(references, "ovf:File", told)


def _disks(root: Element, machine: Machine, files: Sequence[DiskFile]) -> None:
    section = _section(root, "ovf:DiskSection", "Virtual disks")
    for n, (size, file) in enumerate(zip(machine.disks, files, strict=True), 1):
        told = {
            "ovf:diskId": f"vmdisk{n}",
            "ovf:fileRef": f"file{n}",
            "ovf:capacity": str(size),
            "ovf:capacityAllocationUnits": "byte",
            "ovf:format": STREAM_URI,
            "vbox:uuid": file.uuid,
        }
        _add(section, "ovf:Disk", told)


def _networks(root: Element, nics: Sequence[Nic]) -> None:
    section = _section(root, "ovf:NetworkSection", "Logical networks")
    for network in dict.fromkeys(nic.network for nic in nics):
        described = _add(section, "ovf:Network", {"ovf:name": network})
        _add(described, "ovf:Description", text=f"The network {network}")


def _system(root: Element, machine: Machine, files: Sequence[DiskFile], family: Family) -> None:
    system = _section(root, "ovf:VirtualSystem", "A virtual machine", {"ovf:id": machine.name})
    _add(system, "ovf:Name", text=machine.name)
    _operating_system(system, machine)
    if machine.properties:
        _properties(system, machine.properties)
    if machine.note:
        _add(_section(system, "ovf:AnnotationSection", "A note"), "ovf:Annotation", text=machine.note)
    hardware = _section(
        system,
        "ovf:VirtualHardwareSection",
        "Virtual hardware",
        {"ovf:transport": "com.vmware.guestInfo"} if machine.properties else {},
    )
    kind = _add(hardware, "ovf:System")
    _fields(
        kind,
        "vssd",
        {
            "ElementName": "Virtual Hardware Family",
            "InstanceID": "0",
            "VirtualSystemIdentifier": machine.name,
            "VirtualSystemType": _SYSTEM_TYPES[family],
        },
    )
    for number, item in enumerate(_items(machine, family), 1):
        fields = {**item, "InstanceID": str(number)}
        _fields(_add(hardware, "ovf:Item"), "rasd", dict(sorted(fields.items())))  # the schema asks for this order
    if machine.firmware is Firmware.EFI:
        _add(hardware, "vmw:Config", {"ovf:required": "false", "vmw:key": "firmware", "vmw:value": "efi"})
    if family is Family.VIRTUALBOX:
        _virtualbox(system, machine, files)


def _virtualbox(system: Element, machine: Machine, files: Sequence[DiskFile]) -> None:
    """What OVF has no words for and VirtualBox reads here: firmware, MAC addresses, its own adapters."""
    uuids = [file.uuid for file in files]
    described = machine_element(machine, uuids, namespace=_NAMES["ovf"], name=_name("vbox:Machine"))
    described.set(_name("ovf:required"), "false")
    described.set("version", SETTINGS)
    described.insert(0, Element(_name("ovf:Info")))
    described[0].text = "The machine in VirtualBox's own words"
    system.append(described)


def _operating_system(system: Element, machine: Machine) -> None:
    told = {"ovf:id": str(machine.os.cim), "vmw:osType": machine.os.api_word(HARDWARE)}
    section = _section(system, "ovf:OperatingSystemSection", "The operating system inside", told)
    _add(section, "ovf:Description", text=machine.os.said)
    _add(section, "vbox:OSType", {"ovf:required": "false"}, text=machine.os.virtualbox)


def _properties(system: Element, properties: Mapping[str, str]) -> None:
    section = _section(system, "ovf:ProductSection", "What the guest is told")
    for key, value in properties.items():
        _add(section, "ovf:Property", {"ovf:key": key, "ovf:type": "string", "ovf:value": value})


def _items(machine: Machine, family: Family) -> list[dict[str, str]]:
    """The hardware, in the order of its InstanceID: processors 1, memory 2, then the controllers, disks, adapters."""
    controllers = sorted({slot.controller for slot in slots(machine)})
    first = 3
    return [
        {
            "AllocationUnits": "hertz * 10^6",
            "Description": "Number of virtual CPUs",
            "ElementName": f"{machine.cpus} virtual CPU(s)",
            "ResourceType": str(PROCESSORS),
            "VirtualQuantity": str(machine.cpus),
        },
        {
            "AllocationUnits": "byte * 2^20",
            "Description": "Memory size",
            "ElementName": f"{machine.memory_mb} MB of memory",
            "ResourceType": str(MEMORY),
            "VirtualQuantity": str(machine.memory_mb),
        },
        *(_controller(machine.controller, number, family) for number in controllers),
        *(
            {
                "AddressOnParent": str(slot.unit),
                "ElementName": f"Hard disk {n}",
                "HostResource": f"ovf:/disk/vmdisk{n}",
                "Parent": str(first + slot.controller),
                "ResourceType": str(DISK),
            }
            for n, slot in enumerate(slots(machine), 1)
        ),
        *(_nic(nic, n, family) for n, nic in enumerate(machine.nics)),
    ]


def _controller(controller: Controller, number: int, family: Family) -> dict[str, str]:
    kind, *subtypes = _CONTROLLERS[controller]
    subtype = subtypes[family is Family.VIRTUALBOX]
    return {
        "Address": str(number),
        "Description": f"{controller} controller",
        "ElementName": f"{controller}Controller{number}",
        "ResourceType": str(kind),
        **({"ResourceSubType": subtype} if subtype else {}),
    }


def _nic(nic: Nic, number: int, family: Family) -> dict[str, str]:
    return {
        **({"Address": nic.mac} if nic.mac else {}),
        "AddressOnParent": str(number),
        "AutomaticAllocation": "true",
        "Connection": nic.network,
        "ElementName": f"Network adapter {number + 1}",
        "ResourceSubType": _NICS[nic.model][family is Family.VIRTUALBOX],
        "ResourceType": str(ETHERNET),
    }


def _section(parent: Element, name: str, info: str, attributes: Mapping[str, str] | None = None) -> Element:
    section = _add(parent, name, attributes or {})
    _add(section, "ovf:Info", text=info)
    return section


def _fields(element: Element, prefix: str, fields: Mapping[str, str]) -> None:
    for name, value in fields.items():
        _add(element, f"{prefix}:{name}", text=value)


def _add(parent: Element, name: str, attributes: Mapping[str, str] | None = None, *, text: str = "") -> Element:
    element = SubElement(parent, _name(name), {_name(key): value for key, value in (attributes or {}).items()})
    element.text = text or None
    return element


def _name(qualified: str) -> str:
    prefix, _, name = qualified.partition(":")
    return f"{{{_NAMES[prefix]}}}{name}"
