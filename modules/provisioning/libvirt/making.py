"""Making the machine in a slot: disk, first-boot disk, address, description, power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcl_provision.drivers import (
    Computer,
    Disk,
    DiskRole,
    FirstBoot,
    ImageDescriptor,
    Revision,
    Step,
    Task,
    VmHost,
)

from . import networks, volumes
from .binding import libvirt
from .carrying import Carrier
from .hardware import Hardware
from .machine import Attached, Carried, Kernel, Machine, Mark, describe
from .masters import Master


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be made, and where."""

    computer: Computer
    host: VmHost
    revision: Revision
    firstboot: FirstBoot
    master: Master
    hardware: Hardware
    accelerator: str


def define(connection: libvirt.virConnect, task: Task, order: Order, *, autostart: bool) -> libvirt.virDomain:
    """Makes it in an empty slot. Cut off anywhere, what was made is found by its name and owner tag."""
    pool = volumes.pool_at(connection, order.host.profile.vm_path)
    task.say(Step.TRANSFERVM)
    disks = _disks(pool, task.owner, order.master)
    mac = networks.mac_of(order.computer, task.owner)
    carried = Carrier(connection, pool, task, mac=mac).carry(order.hardware.first_boot, order.firstboot)
    console = _console(pool, task.owner, order.hardware)
    task.say(Step.VMSETUPCONFIG)
    network = order.host.profile.network
    if not networks.is_bridge(network):
        networks.fix_lease(connection, network, mac=mac, address=order.computer.private_address)
    description = describe(_machine(task.owner, order, disks=disks, carried=carried, console=console, mac=mac))
    domain = connection.defineXML(description)
    domain.setAutostart(int(autostart))
    return domain


def _disks(pool: libvirt.virStoragePool, owner: str, master: Master) -> list[Attached]:
    """An overlay for what the machine writes to; what it only reads, all machines read from the master itself."""
    attached: list[Attached] = []
    for number, disk in enumerate(system_first(master.descriptor)):
        path, kind = master.path(disk.blob), str(disk.format)
        if disk.role is DiskRole.APPLICATION:
            attached.append(Attached(path=path, format=kind, readonly=True))
            continue
        name = volumes.file_name(owner, volumes.disk_kind(number))
        overlay = volumes.make_overlay(pool, name, master=path, master_format=kind, size=disk.virtual_bytes)
        attached.append(Attached(path=overlay))
    return attached


def system_first(descriptor: ImageDescriptor) -> list[Disk]:
    """Its firmware boots from the first one; the others keep their order."""
    return sorted(descriptor.disks, key=lambda disk: disk.role is not DiskRole.SYSTEM)


def _console(pool: libvirt.virStoragePool, owner: str, hardware: Hardware) -> str:
    if hardware.console != "log":
        return ""
    return volumes.make_empty(pool, volumes.file_name(owner, volumes.CONSOLE)).path()


def _machine(
    owner: str, order: Order, *, disks: Sequence[Attached], carried: Carried, console: str, mac: str
) -> Machine:
    revision, computer = order.revision, order.computer
    mark = Mark(
        owner=owner,
        revision_id=revision.id,
        revision=revision.name,
        generation=order.firstboot.instance,
        host_key=order.firstboot.host_key,
    )
    return Machine(
        name=computer.name,
        mark=mark,
        accelerator=order.accelerator,
        memory_mb=computer.ram_mb,
        cpus=computer.cpus,
        disks=disks,
        carried=carried,
        network=order.host.profile.network,
        mac=mac,
        console=console,
        hardware=order.hardware,
        boot=_boot(order.master),
    )


def _boot(master: Master) -> Kernel | None:
    boot = master.descriptor.boot
    if boot is None:
        return None
    return Kernel(kernel=master.path(boot.kernel), initrd=master.path(boot.initrd), command_line=boot.command_line)
