"""Virtual machines by libvirt: QEMU on this machine or another, disks as qcow2 overlays on read-only masters.

A VM host's address is a libvirt URI (`qemu:///system`, `qemu+ssh://root@host/system`, `qemu+unix:///system?socket=...`)
or a host name, which means qemu+ssh as root. Its VM profile says where things lie on it: `datastore_path` for masters,
`vm_path` for machines' disks, `network` a libvirt network or `bridge:NAME`, overrides as `hardware.Hardware` lists
them; `repository_path` is a folder of the management node, or an address (docs/images.md). A machine is named for its
computer and marked in its metadata.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vcl_provision.drivers import (
    Address,
    Addresses,
    Computer,
    Disks,
    FirstBoot,
    Found,
    HostDisks,
    Inventory,
    LocalHost,
    LocalLab,
    Masters,
    Metrics,
    NodeStatus,
    Power,
    Provisioner,
    Reading,
    Refused,
    Revision,
    Snapshots,
    Step,
    StoredMaster,
    TimedOut,
    Transient,
    VmHost,
)

from . import capturing, evidence, local_host, networks, room, slots, snapshots, unneeded, volumes
from .accelerator import kvm_works
from .binding import libvirt
from .connections import Hypervisor, is_local, uri_of
from .hardware import Hardware, hardware_of
from .making import Order, define
from .masters import datastore_of, kept_there, master_of

_ANSWERS, _BOOTS = 10.0, 60.0
"""Seconds to answer: for a machine that was up before, and for one that may still be booting."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of `[modules.libvirt]`. `accelerator` kvm, tcg, or auto: each VM host is asked once, by a real boot.

    `autostart`: machines come back when their VM host does. `capture_compression` of captured disks: zstd, zlib, empty.
    """

    accelerator: str = "auto"
    autostart: bool = True
    capture_compression: str = ""

    def __post_init__(self) -> None:
        if self.accelerator not in {"auto", "kvm", "tcg"}:
            raise ValueError(f"accelerator {self.accelerator!r} is none of auto, kvm, tcg")
        if self.capture_compression not in {"", "zstd", "zlib"}:
            raise ValueError(f"capture_compression {self.capture_compression!r} is none of zstd, zlib")


class Libvirt(Provisioner[Options], Addresses, Disks, Inventory, LocalHost, Masters, Metrics, Snapshots):
    """Drives libvirt through its own API."""

    Options = Options

    def node_status(self, computer: Computer, revision: Revision) -> NodeStatus:
        host = _host_of(computer)
        with self._connected(host) as connection:
            held = not computer.tainted and evidence.holds(connection, self.task, computer, revision, host)
        if not held or not self._answers(computer, host):
            return NodeStatus.RELOAD
        return NodeStatus.READY if computer.prepared else NodeStatus.POST_LOAD

    def does_image_exist(self, revision: Revision, host: VmHost | None) -> bool:
        host = _given(host)
        try:
            master = master_of(self.task, revision, host)
        except Refused:
            return False
        with datastore_of(host, self._connected) as datastore:
            return datastore.holds(master)

    def retrieve_image(self, revision: Revision, host: VmHost | None) -> None:
        host = _given(host)
        master = master_of(self.task, revision, host)
        with datastore_of(host, self._connected) as datastore:
            if not datastore.holds(master):
                datastore.put(self.task, host, master)

    def get_image_size(self, revision: Revision, host: VmHost | None) -> int:
        return self.task.repository(_given(host).profile).get(revision.name).size_bytes

    def load(self, computer: Computer, revision: Revision, firstboot: FirstBoot) -> None:
        host = _host_of(computer)
        hardware = hardware_of(host.profile)
        self.task.say(Step.STARTLOAD)
        self.control_VM(computer, Power.REMOVE)
        room.require_room_for_machine(host, self._connected)
        self.retrieve_image(revision, host)
        order = Order(
            computer=computer,
            host=host,
            revision=revision,
            firstboot=firstboot,
            master=master_of(self.task, revision, host),
            hardware=hardware,
            accelerator=self._accelerator(host, hardware),
        )
        name, vm_path = computer.name, host.profile.vm_path
        self.task.record("remove", uri=uri_of(host), vm_path=vm_path, name=name, owner=self.task.owner)
        with self._connected(host) as connection, datastore_of(host, self._connected) as datastore:
            with kept_there(self.task, host, order.master, datastore):
                domain = define(connection, self.task, order, autostart=self.options.autostart)
            self.task.say(Step.STARTVM)
            domain.create()
        self.task.say(Step.BOOTING)
        self.task.reach(computer, alive=lambda: self._alive(computer, host))
        self.task.say(Step.MACHINEBOOTED)

    def capture(self, computer: Computer, revision: Revision) -> None:
        host = _host_of(computer)
        repository = self.task.repository(host.profile)
        patience = self.task.patience
        off = f"{computer.name} to be off"
        patience.until(lambda: self._is_off(computer, host), off, hint="shut it down from inside")
        with self.task.locks.hold(f"capture {revision.name}", patience=patience), self._connected(host) as connection:
            self.task.record("discard", scope="reservation", path=str(capturing.scratch_of(repository, revision)))
            domain = slots.needed_domain(connection, computer.name, self.task.owner)
            machine = capturing.captured(domain, repository, fetch=not is_local(host.address))
            capturing.capture(self.task, machine, repository, revision, self.options.capture_compression)

    def control_VM(self, computer: Computer, action: Power) -> None:
        host = _host_of(computer)
        owner = self.task.owner
        if action in {Power.OFF, Power.RESET, Power.REMOVE}:
            self.task.guests.forget(computer)
        with self._connected(host) as connection:
            if action is Power.REMOVE:
                slots.clear(connection, computer.name, owner)
                volumes.remove_files(connection, host.profile.vm_path, owner, self.task.patience)
            else:
                slots.control(connection, computer.name, owner, action)

    def undo_remove(self, uri: str, vm_path: str, name: str, owner: str) -> None:
        """Undoes a load. A machine of somebody else's in the slot means that ours is gone."""
        with self._hypervisor(uri).connected(self.task.patience) as connection:
            with contextlib.suppress(Refused):
                slots.clear(connection, name, owner)
            volumes.remove_files(connection, vm_path, owner, self.task.patience)

    def undo_discard(self, path: str) -> None:
        """Undoes a capture that did not end."""
        capturing.discard(Path(path))

    def inventory(self, host: VmHost) -> Sequence[Found]:
        with self._connected(host) as connection:
            return [*slots.listed(connection), *volumes.listed(connection, host.profile.vm_path)]

    def disks(self, host: VmHost) -> HostDisks:
        return room.disks(host, self._connected)

    def masters(self, host: VmHost) -> Sequence[StoredMaster]:
        with self._connected(host) as connection:
            return unneeded.lying(connection, host)

    def remove_masters(
        self, host: VmHost, named: Callable[[], Collection[str]], before: datetime
    ) -> Sequence[StoredMaster]:
        with self._connected(host) as connection:
            return unneeded.remove(connection, self.task, host, named, before)

    def metrics(self, computer: Computer) -> Reading:
        with self._slot(computer) as (_, domain):
            return slots.reading(domain)

    def addresses(self, computer: Computer) -> Sequence[Address]:
        network = _host_of(computer).profile.network
        with self._slot(computer) as (connection, domain):
            if networks.is_bridge(network):
                return networks.told_by_agent(domain)
            return networks.leased(connection, network, networks.mac_of(computer, self.task.owner))

    def set_address(self, computer: Computer, address: Address) -> None:
        host = _host_of(computer)
        if networks.is_bridge(host.profile.network):
            said = f"addresses in {host.profile.network} are not libvirt's to give"
            raise Refused(said, "set it in that network's own DHCP")
        mac = networks.mac_of(computer, self.task.owner)
        with self._connected(host) as connection:
            networks.fix_lease(connection, host.profile.network, mac=mac, address=address)

    def snapshot(self, computer: Computer, name: str) -> None:
        with self._slot(computer) as (_, domain):
            snapshots.take(domain, name)

    def snapshots(self, computer: Computer) -> Sequence[str]:
        with self._slot(computer) as (_, domain):
            return snapshots.listed(domain)

    def revert(self, computer: Computer, name: str) -> None:
        self.task.guests.forget(computer)
        with self._slot(computer) as (_, domain):
            snapshots.go_back(domain, name)

    def delete_snapshot(self, computer: Computer, name: str) -> None:
        with self._slot(computer) as (_, domain):
            snapshots.delete(domain, name)

    @classmethod
    def missing(cls) -> Sequence[str]:
        return local_host.missing()

    @classmethod
    def up(cls, folder: Path, slots: int) -> LocalLab:
        return local_host.up(folder, slots)

    @classmethod
    def down(cls, folder: Path) -> None:
        local_host.down(folder)

    def _hypervisor(self, uri: str) -> Hypervisor:
        return self.task.kept.get(f"libvirt {uri}", lambda: Hypervisor(uri), Hypervisor.close)

    @contextlib.contextmanager
    def _connected(self, host: VmHost) -> Generator[libvirt.virConnect]:
        with self._hypervisor(uri_of(host)).connected(self.task.patience) as connection:
            yield connection

    @contextlib.contextmanager
    def _slot(self, computer: Computer) -> Generator[tuple[libvirt.virConnect, libvirt.virDomain]]:
        """The machine in the computer's slot. Raises Refused if there is none of ours."""
        with self._connected(_host_of(computer)) as connection:
            yield connection, slots.needed_domain(connection, computer.name, self.task.owner)

    def _accelerator(self, host: VmHost, hardware: Hardware) -> str:
        word = hardware.accelerator or self.options.accelerator
        if word != "auto":
            return word
        return self.task.kept.get(f"accelerator {uri_of(host)}", lambda: self._probe(host), lambda _: None)

    def _probe(self, host: VmHost) -> str:
        with self._connected(host) as connection:
            pool = volumes.pool_at(connection, host.profile.vm_path)
            return "kvm" if kvm_works(connection, pool, self.task.patience) else "tcg"

    def _alive(self, computer: Computer, host: VmHost) -> bool:
        with self._connected(host) as connection:
            domain = slots.own_domain(connection, computer.name, self.task.owner)
            return domain is not None and slots.alive(domain, host.profile.vm_path)

    def _is_off(self, computer: Computer, host: VmHost) -> bool:
        with self._connected(host) as connection:
            return not slots.needed_domain(connection, computer.name, self.task.owner).isActive()

    def _answers(self, computer: Computer, host: VmHost) -> bool:
        """With the pinned host key. A machine whose load was cut off may still be booting: it gets time for that."""

        def ask() -> bool:
            if not self._alive(computer, host):
                raise Refused(f"{computer.name} stopped")
            with contextlib.suppress(Transient):
                self.task.guests.channel(computer, patience=self.task.patience.at_most(_ANSWERS))
                return True
            return False

        try:
            patience = self.task.patience.at_most(_ANSWERS if computer.prepared else _BOOTS)
            return patience.until(ask, f"{computer.name} to answer")
        except (Refused, TimedOut):
            return False


def _host_of(computer: Computer) -> VmHost:
    if computer.host is None:
        raise Refused(f"computer {computer.name} has no VM host", "assign it to one")
    return computer.host


def _given(host: VmHost | None) -> VmHost:
    if host is None:
        raise Refused("libvirt's images lie on VM hosts, and none was named", "assign the computer to a VM host")
    return host


MODULE = Libvirt
