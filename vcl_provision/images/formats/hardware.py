"""The virtual hardware in the descriptor of an OVF, read. Source: DMTF DSP0243, VirtualHardwareSection.

Items are CIM_ResourceAllocationSettingData; VirtualBox's own description of the machine says what they cannot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from vcl_provision.images.formats.guest_os import GuestOs, by_cim, guest_os
from vcl_provision.images.formats.machine import Controller, Firmware, Machine, Nic, NicModel
from vcl_provision.images.formats.xml import attribute, child_text, children, descendants
from vcl_provision.model.faults import Refused

PROCESSORS, MEMORY, IDE, SCSI, ETHERNET, DISK, SATA, LOGICAL_DISK = 3, 4, 5, 6, 10, 17, 20, 31
"""CIM_ResourceAllocationSettingData.ResourceType."""

AGAIN = "export the machine again"

_UNIT = re.compile(r"byte(?: ?\* ?(?:2 ?\^ ?(\d{1,2})|(\d{1,9})))?")
_NAMED_UNITS = {"": 0, "bytes": 0, "kilobytes": 10, "megabytes": 20, "mb": 20, "gigabytes": 30, "gb": 30}
_MAC = re.compile(r"([0-9A-Fa-f]{2}):?([0-9A-Fa-f]{2}):?" * 3)


def items_of(root: Element, system: Element) -> Sequence[Element]:
    """The hardware, in the configuration that is taken when nobody chooses one."""
    chosen = _default_configuration(root)
    sections = children(system, "VirtualHardwareSection")
    items = [item for section in sections for item in children(section, "Item", "StorageItem", "EthernetPortItem")]
    return [item for item in items if chosen in (attribute(item, "configuration").split() or [chosen])]


def disk_items(items: Sequence[Element]) -> Sequence[Element]:
    """The disks as the guest counts them: by controller, then by place on it."""
    order = {child_text(item, "InstanceID"): n for n, item in enumerate(items)}
    disks = [item for item in items if _kind(item) in {DISK, LOGICAL_DISK}]
    return sorted(disks, key=lambda item: (order.get(child_text(item, "Parent"), 0), _place(item)))


def read_machine(system: Element, items: Sequence[Element], disks: Sequence[int], about: str) -> Machine:
    """The machine of a VirtualSystem; `disks` are its virtual sizes. Raises Refused, naming what cannot be read."""
    memory = _only(items, MEMORY, about)
    unit = unit_bytes(child_text(memory, "AllocationUnits") or "megabytes", about)
    return Machine(
        name=_name(system),
        cpus=_quantity(_only(items, PROCESSORS, about), about),
        memory_mb=_quantity(memory, about) * unit >> 20,
        disks=disks,
        os=_os(system),
        firmware=_firmware(system),
        controller=_controller(items),
        nics=_nics(system, items),
        note=next((child_text(section, "Annotation") for section in children(system, "AnnotationSection")), ""),
        properties=dict(_properties(system)),
    )


def number(text: str, what: str, about: str) -> int:
    """A whole number of at most 18 digits. Raises Refused."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Refused(f"{about} has {text[:40]!r} for {what}, which is no number", AGAIN)
    return int(text)


def unit_bytes(text: str, about: str) -> int:
    """Bytes of one unit: `byte * 2^30`, and the words that older writers use. Raises Refused for any other."""
    if text.lower() in _NAMED_UNITS:
        return 1 << _NAMED_UNITS[text.lower()]
    found = _UNIT.fullmatch(text)
    if found is None:
        raise Refused(f"{about} counts in {text[:40]!r}, which is no unit that is known", AGAIN)
    return 1 << int(found[1]) if found[1] else int(found[2] or 1)


def _default_configuration(root: Element) -> str:
    sections = descendants(root, "DeploymentOptionSection")
    options = [option for section in sections for option in children(section, "Configuration")]
    marked = [option for option in options if attribute(option, "default").lower() in {"true", "1"}]
    return next((attribute(option, "id") for option in (*marked, *options)), "")


def _only(items: Sequence[Element], kind: int, about: str) -> Element:
    found = [item for item in items if _kind(item) == kind]
    if len(found) != 1:
        raise Refused(f"{about} says {len(found)} times how much of resource {kind} the machine has", AGAIN)
    return found[0]


def _quantity(item: Element, about: str) -> int:
    return number(child_text(item, "VirtualQuantity"), f"resource {_kind(item)}", about)


def _name(system: Element) -> str:
    said = child_text(system, "Name") or attribute(system, "id")
    return re.sub(r"[\x00-\x1f/\\]", "-", said)[:80].strip(".") or "machine"


def _os(system: Element) -> GuestOs:
    """VirtualBox's word, VMware's word, the description; else CIM's number."""
    for section in children(system, "OperatingSystemSection"):
        said = (child_text(section, "OSType"), attribute(section, "osType"), child_text(section, "Description"))
        known = [found for found in map(guest_os, said) if found.word != "other"]
        cim = attribute(section, "id")
        return known[0] if known else by_cim(int(cim) if cim.isdecimal() else 0)
    return guest_os("")


def _firmware(system: Element) -> Firmware:
    """VMware says it in a Config, VirtualBox in its own description of the machine."""
    configs = [config for config in descendants(system, "Config") if attribute(config, "key") == "firmware"]
    told = [attribute(config, "value") for config in configs]
    told += [attribute(element, "type") for element in descendants(system, "Firmware")]
    return Firmware.EFI if any(word.lower().startswith("efi") for word in told) else Firmware.BIOS


def _controller(items: Sequence[Element]) -> Controller:
    """What the first disk hangs from."""
    parent = next((child_text(item, "Parent") for item in disk_items(items)), "")
    above = next((item for item in items if child_text(item, "InstanceID") == parent), None)
    if above is None:
        return Controller.SCSI
    if child_text(above, "ResourceSubType").lower() == "virtualscsi":
        return Controller.PVSCSI
    return {IDE: Controller.IDE, SCSI: Controller.SCSI}.get(_kind(above), Controller.SATA)


def _nics(system: Element, items: Sequence[Element]) -> Sequence[Nic]:
    """Of the items; what an adapter of VirtualBox says beside them, in the same order, is believed before them."""
    adapters = [adapter for adapter in descendants(system, "Adapter") if attribute(adapter, "enabled") == "true"]
    ethernet = [item for item in items if _kind(item) == ETHERNET]
    beside = adapters if len(adapters) == len(ethernet) else [Element("Adapter")] * len(ethernet)
    return [_nic(item, adapter) for item, adapter in zip(ethernet, beside, strict=True)]


def _nic(item: Element, adapter: Element) -> Nic:
    model = (attribute(adapter, "type") or child_text(item, "ResourceSubType")).lower()
    known = [word for word in (NicModel.VMXNET3, NicModel.VIRTIO) if word in model]
    found = _MAC.fullmatch(attribute(adapter, "MACAddress") or child_text(item, "Address"))
    return Nic(
        network=child_text(item, "Connection")[:80],
        model=known[0] if known else NicModel.E1000,
        mac=":".join(found.groups()).lower() if found else "",
    )


def _properties(system: Element) -> Iterator[tuple[str, str]]:
    for section in children(system, "ProductSection"):
        for element in children(section, "Property"):
            yield attribute(element, "key"), attribute(element, "value")


def _place(item: Element) -> int:
    place = child_text(item, "AddressOnParent")
    return int(place) if re.fullmatch(r"[0-9]{1,4}", place) else 0


def _kind(item: Element) -> int:
    text = child_text(item, "ResourceType")
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else 0
