"""Which disk controller and network card VMware or VirtualBox gives a machine: ones that its kernel has drivers for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vcl_provision.images.builder.deploy.built_machine import BuiltMachine
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.formats.guest_os import guest_os
from vcl_provision.images.formats.machine import Controller, Firmware, Machine, Nic, NicModel
from vcl_provision.model.faults import Refused

T = TypeVar("T", Controller, NicModel)

_CONTROLLERS = {
    Controller.SATA: "ahci",
    Controller.PVSCSI: "vmw_pvscsi",
    Controller.SCSI: "mptspi",
    Controller.IDE: "ata_piix",
}
_NICS = {NicModel.VMXNET3: "vmxnet3", NicModel.VIRTIO: "virtio_net", NicModel.E1000: "e1000"}


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a hypervisor can give, best first. `said` names it in messages."""

    said: str
    controllers: Sequence[Controller]
    nics: Sequence[NicModel]


VMWARE = Offer(
    said="VMware",
    controllers=(Controller.PVSCSI, Controller.SCSI, Controller.SATA, Controller.IDE),
    nics=(NicModel.VMXNET3, NicModel.E1000),
)
VIRTUALBOX = Offer(
    said="VirtualBox",
    controllers=(Controller.SATA, Controller.SCSI, Controller.IDE),
    nics=(NicModel.VIRTIO, NicModel.E1000),
)
BOTH = Offer(
    said="a machine for VMware and VirtualBox",
    controllers=(Controller.SATA, Controller.SCSI, Controller.IDE),
    nics=(NicModel.E1000, NicModel.VMXNET3),
)


def described(machine: BuiltMachine, offer: Offer, *, network: str) -> Machine:
    """The machine in the words of a description file; sizes of disks are left to whoever measures them.

    Raises Refused if this hypervisor could not start it.
    """
    check_starts(machine.loader, offer)
    return Machine(
        name=machine.name,
        cpus=machine.cpus,
        memory_mb=machine.memory_mb,
        disks=[0] * len(machine.disks),
        os=guest_os(machine.os),
        firmware=Firmware.EFI if machine.loader is Loader.UEFI else Firmware.BIOS,
        controller=_best(offer.controllers, _CONTROLLERS, machine, offer, "disk controller"),
        nics=[Nic(network=network, model=_best(offer.nics, _NICS, machine, offer, "network card"), mac=machine.mac)],
    )


def check_starts(loader: Loader, offer: Offer) -> None:
    """Raises Refused for a kernel that has to be handed over, which only QEMU can."""
    if loader is Loader.DIRECT:
        said = f"{offer.said} cannot start a kernel that is handed over"
        raise Refused(said, "build it with a boot loader: bios, uefi or bios+uefi")


def _best(offered: Sequence[T], drivers: Mapping[T, str], machine: BuiltMachine, offer: Offer, what: str) -> T:
    for one in offered:
        if not machine.drivers or drivers[one] in machine.drivers:
            return one
    wanted = ", ".join(drivers[one] for one in offered)
    said = f"the kernel of {machine.name} has no driver for a {what} of {offer.said}: {wanted}"
    raise Refused(said, "take another kernel flavour, such as Debian's generic one")
