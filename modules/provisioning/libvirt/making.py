"""Making the machine in a slot: disk, first-boot disk, address, description, power."""

from __future__ import annotations

from dataclasses import dataclass

from vcl_provision.drivers import Computer, FirstBoot, Revision, Role, Step, Task, VmHost, nocloud_iso

from . import networks, volumes
from .binding import libvirt
from .hardware import Hardware
from .machine import DirectBoot, Machine, Mark, describe
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


def make(connection: libvirt.virConnect, task: Task, order: Order, *, autostart: bool) -> libvirt.virDomain:
    """Makes and starts it in an empty slot. Cut off anywhere, what was made is found by its name and owner tag."""
    pool = volumes.pool_at(connection, order.host.profile.vm_path)
    task.say(Step.TRANSFERVM)
    disk = _disk(pool, task.owner, order.master)
    seed = volumes.put_bytes(
        connection, pool, volumes.file_name(task.owner, volumes.SEED), nocloud_iso(order.firstboot)
    )
    console = _console(pool, task.owner, order.hardware)
    task.say(Step.VMSETUPCONFIG)
    mac = networks.mac_of(order.computer, task.owner)
    network = order.host.profile.network
    if not networks.is_bridge(network):
        networks.fix_lease(connection, network, mac=mac, address=order.computer.private_address)
    description = describe(_machine(task.owner, order, disk=disk, seed=seed, console=console, mac=mac))
    domain = connection.defineXML(description)
    domain.setAutostart(int(autostart))
    task.say(Step.STARTVM)
    domain.create()
    return domain


def _disk(pool: libvirt.virStoragePool, owner: str, master: Master) -> str:
    return volumes.make_overlay(
        pool,
        volumes.file_name(owner, volumes.DISK),
        master=master.path(Role.DISK),
        master_format=master.disk_format,
        size=master.manifest.virtual_size_bytes,
    )


def _console(pool: libvirt.virStoragePool, owner: str, hardware: Hardware) -> str:
    if hardware.console != "log":
        return ""
    return volumes.make_empty(pool, volumes.file_name(owner, volumes.CONSOLE)).path()


def _machine(owner: str, order: Order, *, disk: str, seed: str, console: str, mac: str) -> Machine:
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
        disk=disk,
        seed=seed,
        network=order.host.profile.network,
        mac=mac,
        console=console,
        hardware=order.hardware,
        boot=_boot(order.master),
    )


def _boot(master: Master) -> DirectBoot | None:
    kernel, initrd = master.path(Role.KERNEL), master.path(Role.INITRD)
    if not kernel:
        return None
    return DirectBoot(kernel=kernel, initrd=initrd, command_line=master.manifest.kernel_command_line)
