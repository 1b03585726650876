"""A machine's .vmx, VMware's settings file: lines of `key = "value"`.

Source: what ESXi 6.5 to 8 and Workstation 14 and later read; hardware version 13 is the oldest that each of them makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vcl_provision.images.formats.describing import HARDWARE
from vcl_provision.images.formats.guest_os import guest_os
from vcl_provision.images.formats.machine import Controller, Firmware, Machine, Nic, NicModel, Slot, slots
from vcl_provision.images.formats.placing import new_files
from vcl_provision.model.faults import Refused

GUESTINFO = "guestinfo."
"""Before the name of each property: `vmware-rpctool 'info-get guestinfo.NAME'` inside the guest."""

MOST_BYTES = 1 << 20

_LINE = re.compile(r'\s*([A-Za-z0-9_.:-]+)\s*=\s*"([^"]*)"\s*')
_ESCAPED = re.compile(r"\|([0-9A-Fa-f]{2})")
_SPECIAL = re.compile(r'[\x00-\x1f"|]')
_CONNECTIONS = {"nat", "bridged", "hostonly"}
_CONTROLLERS = {
    Controller.SATA: ("sata", ""),
    Controller.SCSI: ("scsi", "lsilogic"),
    Controller.PVSCSI: ("scsi", "pvscsi"),
    Controller.IDE: ("ide", ""),
}
_DEVICES = {"scsi": "scsi-hardDisk", "sata": "disk", "ide": "ata-hardDisk"}
_NICS = {NicModel.E1000: "e1000", NicModel.VMXNET3: "vmxnet3", NicModel.VIRTIO: "vmxnet3"}
_VMWARE_MAC = re.compile(r"00:50:56:[0-3][0-9a-f]:[0-9a-f]{2}:[0-9a-f]{2}")
_DISK = re.compile(r"(sata|scsi|ide|nvme)(\d+):(\d+)\.filename")


def write_vmx(
    machine: Machine, disks: Sequence[str], target: Path, *, hardware: int = HARDWARE, overwrite: bool = False
) -> None:
    """Writes the settings of a machine whose disks have these names beside `target` (or full paths), in their order.

    A network is `nat`, `bridged` or `hostonly` (Workstation), or the name of a port group (ESXi).
    Raises Refused for a hardware version below 13, or a target that is there.
    """
    if hardware < HARDWARE:
        raise Refused(f"hardware version {hardware} is older than {HARDWARE}", "ESXi 6.5 and later take 13")
    lines = [f'{key} = "{_escaped(value)}"' for key, value in _settings(machine, disks, target.stem, hardware)]
    with new_files(target, overwrite=overwrite) as made:
        made.write_text("\n".join(lines) + "\n", encoding="utf-8")


def parse_vmx(text: bytes, about: str) -> dict[str, str]:
    """Keys in lower case to values. Raises Refused, naming a line that is none, or a key that is there twice."""
    if len(text) > MOST_BYTES:
        raise Refused(f"{about} has {len(text)} bytes; at most {MOST_BYTES} are read", "is it a .vmx at all?")
    settings: dict[str, str] = {}
    for line in text.decode("utf-8", errors="replace").splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            if line.strip() and not line.lstrip().startswith("#"):
                raise Refused(f"{about} has a line that is no setting: {line[:80]!r}", 'write it as key = "value"')
            continue
        if found[1].lower() in settings:
            raise Refused(f"{about} sets {found[1]} twice", "keep one of them")
        settings[found[1].lower()] = _ESCAPED.sub(lambda code: chr(int(code[1], 16)), found[2])
    return settings


def read_vmx(path: Path) -> tuple[Machine, Sequence[str]]:
    """The machine, and the names of its disks in the guest's order. Their sizes are not in it: they read as 0."""
    settings = parse_vmx(path.read_bytes(), str(path))
    found = sorted(_disks(settings), key=lambda disk: (disk[0], disk[1].controller, disk[1].unit))
    machine = Machine(
        name=settings.get("displayname", path.stem),
        cpus=_number(settings, "numvcpus", "1", path),
        memory_mb=_number(settings, "memsize", "32", path),
        disks=[0] * len(found),
        os=guest_os(settings.get("guestos", "")),
        firmware=Firmware.EFI if settings.get("firmware") == "efi" else Firmware.BIOS,
        controller=_controller(settings, found[0][0] if found else "scsi"),
        nics=list(_nics(settings)),
        note=settings.get("annotation", ""),
        properties={key.removeprefix(GUESTINFO): value for key, value in settings.items() if key.startswith(GUESTINFO)},
    )
    return machine, [name for _, _, name in found]


def _settings(machine: Machine, disks: Sequence[str], stem: str, hardware: int) -> Iterator[tuple[str, str]]:
    yield from {
        ".encoding": "UTF-8",
        "config.version": "8",
        "virtualHW.version": str(hardware),
        "displayName": machine.name,
        "annotation": machine.note,
        "guestOS": machine.os.vmx_word(hardware),
        "firmware": machine.firmware.value,
        "nvram": f"{stem}.nvram",
        "memSize": str(machine.memory_mb),
        "numvcpus": str(machine.cpus),
        "disk.EnableUUID": "TRUE",  # the guest's udev names disks by it
        "uuid.action": "create",  # do not ask at the first start whether it was moved or copied
    }.items()
    yield from _pci_bridges()
    yield from _disk_settings(machine, disks)
    for number, nic in enumerate(machine.nics):
        yield from _nic_settings(f"ethernet{number}", nic)
    for name, value in machine.properties.items():
        yield f"{GUESTINFO}{_property_name(name)}", value


def _property_name(name: str) -> str:
    """The name, if a key can have it. Raises Refused: names come from outside, and a line break begins a setting."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name):
        raise Refused(f"a property cannot be named {name[:40]!r} in a .vmx", "take letters, digits, dots and dashes")
    return name


def _pci_bridges() -> Iterator[tuple[str, str]]:
    """What PCI Express devices hang from: without them, vmxnet3 and pvscsi find no place."""
    yield "pciBridge0.present", "TRUE"
    for number in range(4, 8):
        yield f"pciBridge{number}.present", "TRUE"
        yield f"pciBridge{number}.virtualDev", "pcieRootPort"
        yield f"pciBridge{number}.functions", "8"


def _disk_settings(machine: Machine, disks: Sequence[str]) -> Iterator[tuple[str, str]]:
    kind, device = _CONTROLLERS[machine.controller]
    places = slots(machine)
    for controller in sorted({place.controller for place in places}):
        yield f"{kind}{controller}.present", "TRUE"
        if device:
            yield f"{kind}{controller}.virtualDev", device
    for place, name in zip(places, disks, strict=True):
        at = f"{kind}{place.controller}:{place.unit}"
        yield f"{at}.present", "TRUE"
        yield f"{at}.fileName", name
        yield f"{at}.deviceType", _DEVICES[kind]


def _nic_settings(at: str, nic: Nic) -> Iterator[tuple[str, str]]:
    yield f"{at}.present", "TRUE"
    yield f"{at}.virtualDev", _NICS[nic.model]
    yield f"{at}.startConnected", "TRUE"
    if nic.network.lower() in _CONNECTIONS:
        yield f"{at}.connectionType", nic.network.lower()
    else:
        yield f"{at}.networkName", nic.network
    if not nic.mac:
        yield f"{at}.addressType", "generated"
        return
    yield f"{at}.addressType", "static"
    yield f"{at}.address", nic.mac.lower()
    if not _VMWARE_MAC.fullmatch(nic.mac.lower()):
        yield f"{at}.checkMACAddress", "FALSE"  # VMware takes only its own range without it


def _disks(settings: Mapping[str, str]) -> Iterator[tuple[str, Slot, str]]:
    for key, name in settings.items():
        found = _DISK.fullmatch(key)
        at = key.removesuffix(".filename")
        if found and _is(settings, f"{at}.present") and "cdrom" not in settings.get(f"{at}.devicetype", ""):
            yield found[1], Slot(controller=int(found[2]), unit=int(found[3])), name


def _nics(settings: Mapping[str, str]) -> Iterator[Nic]:
    for number in range(10):
        at = f"ethernet{number}"
        if _is(settings, f"{at}.present"):
            model = settings.get(f"{at}.virtualdev", "")
            yield Nic(
                network=settings.get(f"{at}.networkname") or settings.get(f"{at}.connectiontype", "bridged"),
                model=NicModel.VMXNET3 if model == "vmxnet3" else NicModel.E1000,
                mac=settings.get(f"{at}.address", ""),
            )


def _controller(settings: Mapping[str, str], kind: str) -> Controller:
    if kind == "scsi":
        return Controller.PVSCSI if settings.get("scsi0.virtualdev") == "pvscsi" else Controller.SCSI
    return {"ide": Controller.IDE}.get(kind, Controller.SATA)


def _is(settings: Mapping[str, str], key: str) -> bool:
    return settings.get(key, "").upper() == "TRUE"


def _number(settings: Mapping[str, str], key: str, default: str, path: Path) -> int:
    value = settings.get(key, default)
    if not re.fullmatch(r"\d{1,9}", value):
        raise Refused(f"{path} has {value!r} as {key}, which is no number", "set it to one")
    return int(value)


def _escaped(value: str) -> str:
    return _SPECIAL.sub(lambda found: f"|{ord(found[0]):02X}", value)
