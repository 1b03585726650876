"""A machine as its description files (OVF, .vmx, .vbox) hold it: the hardware, and its disks in their order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from vcl_provision.images.formats.guest_os import OTHER, GuestOs
from vcl_provision.model.faults import Refused

_MAC = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}")
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # in XML
_NAME = re.compile(r"[^\x00-\x1f/\\]{1,80}")


class Firmware(StrEnum):
    """What starts the machine."""

    BIOS = "bios"
    EFI = "efi"


class Controller(StrEnum):
    """What the disks hang from."""

    SATA = "sata"
    SCSI = "scsi"
    """LSI Logic: VMware and VirtualBox have it, and so has every guest of theirs."""
    PVSCSI = "pvscsi"
    """VMware's own, faster; VirtualBox has none."""
    IDE = "ide"


class NicModel(StrEnum):
    """The network adapter that the guest sees."""

    E1000 = "e1000"
    VMXNET3 = "vmxnet3"
    VIRTIO = "virtio"


@dataclass(frozen=True, kw_only=True)
class Nic:
    """One network adapter. `network` names the hypervisor's network; without a MAC address the hypervisor picks one."""

    network: str = "VM Network"
    model: NicModel = NicModel.E1000
    mac: str = ""

    def __post_init__(self) -> None:
        if self.mac and not _MAC.fullmatch(self.mac.upper()):
            raise Refused(f"{self.mac!r} is no MAC address", "give it as six pairs of digits: 52:54:00:12:34:56")


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where a disk hangs: the number of its controller, and its place there."""

    controller: int
    unit: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine is made of, but for its disks' content.

    `disks` are virtual sizes in bytes, the one that it boots from first. `properties` are handed to the guest by the
    hypervisor: `guestinfo.NAME` in VMware, the guest property `/vcl/NAME` in VirtualBox.
    """

    name: str
    cpus: int
    memory_mb: int
    disks: Sequence[int]
    os: GuestOs = OTHER
    firmware: Firmware = Firmware.BIOS
    controller: Controller = Controller.SCSI
    nics: Sequence[Nic] = ()
    note: str = ""
    properties: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Raises Refused for a machine that no hypervisor could make."""
        if not _NAME.fullmatch(self.name) or self.name in {".", ".."}:
            raise Refused(f"{self.name!r} is no name for a machine", "take up to 80 characters, without slashes")
        for text in (self.note, *self.properties, *self.properties.values(), *(nic.network for nic in self.nics)):
            if _UNWRITABLE.search(text):
                raise Refused(f"{self.name} has control characters in {text[:40]!r}", "leave them out")
        if self.cpus < 1 or self.memory_mb < 1:
            raise Refused(
                f"{self.name} has {self.cpus} processors and {self.memory_mb} MiB", "give at least one of each"
            )
        if len(self.disks) > places(self.controller):
            said = f"{self.name} has {len(self.disks)} disks; {self.controller} takes {places(self.controller)}"
            raise Refused(said, "take another controller, or fewer disks")


_UNITS = {
    Controller.SATA: tuple(range(30)),
    Controller.SCSI: tuple(unit for unit in range(16) if unit != 7),  # 7 is the controller itself
    Controller.PVSCSI: tuple(unit for unit in range(16) if unit != 7),
    Controller.IDE: (0, 1),
}
_CONTROLLERS = {Controller.SATA: 1, Controller.SCSI: 1, Controller.PVSCSI: 4, Controller.IDE: 2}
"""How many of one kind a machine may have: VMware takes four of the first three, VirtualBox one of each kind."""


def places(controller: Controller) -> int:
    """How many disks fit."""
    return len(_UNITS[controller]) * _CONTROLLERS[controller]


def slots(machine: Machine) -> Sequence[Slot]:
    """Where each disk of a machine hangs, in their order."""
    units = _UNITS[machine.controller]
    return [Slot(controller=n // len(units), unit=units[n % len(units)]) for n in range(len(machine.disks))]
