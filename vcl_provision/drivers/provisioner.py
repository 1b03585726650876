"""The contract of a provisioning module: seven verbs, Apache VCL's names, and the capabilities it may add."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from vcl_provision.channels.runner import Channel
from vcl_provision.drivers.driver import Driver, O
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.lab import Address, Computer, Revision, VmHost
from vcl_provision.model.space import HostDisks
from vcl_provision.model.states import NodeStatus, Power


class Provisioner(Driver[O], ABC):
    """Drives one kind of hypervisor or bare-metal manager.

    May raise Transient (asked again later; HostUnreachable if the VM host itself is away), Refused (the reservation
    fails, its user is told) or let CommandFailed and TimedOut pass.
    """

    @abstractmethod
    def node_status(self, computer: Computer, revision: Revision) -> NodeStatus:
        """What the machine needs before this revision can be used on it. Asks the machine itself, changes nothing.

        READY or POST_LOAD only on evidence that a user of the guest could not have edited: the hypervisor's own
        record of what was loaded, and the pinned host key. When in doubt RELOAD.
        """

    @abstractmethod
    def does_image_exist(self, revision: Revision, host: VmHost | None) -> bool:
        """True only for a whole, verified image that this host can load from."""

    @abstractmethod
    def retrieve_image(self, revision: Revision, host: VmHost | None) -> None:
        """Fetches the image from the repository to the host: verified, atomic; many may ask, one fetches."""

    @abstractmethod
    def load(self, computer: Computer, revision: Revision, firstboot: FirstBoot) -> None:
        """Puts the image on the computer: up, running and reachable.

        Begins with `control_VM(computer, REMOVE)` and ends with `task.reach`. A load that fails leaves nothing that
        its recorded effects do not undo.
        """

    @abstractmethod
    def capture(self, computer: Computer, revision: Revision) -> None:
        """Makes an image of the computer; if it fails or is killed, no partial image, and the machine unharmed."""

    @abstractmethod
    def control_VM(self, computer: Computer, action: Power) -> None:
        """Turns the machine on or off, resets, suspends, resumes or removes it.

        Each is idempotent; removing what is gone succeeds; only what carries our owner tag is ever removed.
        """

    @abstractmethod
    def get_image_size(self, revision: Revision, host: VmHost | None) -> int:
        """Size of the image in bytes, as it lies in the repository."""


@runtime_checkable
class GuestExec(Protocol):
    """Runs commands inside a machine without its network."""

    def guest_channel(self, computer: Computer) -> Channel: ...


@dataclass(frozen=True, kw_only=True)
class Found:
    """Something that lies on a VM host: its slot, its owner tag (empty: nobody's we know), its name for people."""

    name: str
    owner: str
    what: str


@runtime_checkable
class Inventory(Protocol):
    """Lists everything that is there, for the leak audit."""

    def inventory(self, host: VmHost) -> Sequence[Found]: ...


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a machine uses: CPU seconds since it started, memory in bytes."""

    cpu_seconds: float
    memory_bytes: int


@runtime_checkable
class Metrics(Protocol):
    """Measures a machine."""

    def metrics(self, computer: Computer) -> Reading: ...


@dataclass(frozen=True, kw_only=True)
class StoredMaster:
    """A content of images as it lies on a VM host. `holders`: machines and disks there that rest on it."""

    sha256: str
    bytes: int
    changed: datetime
    holders: Sequence[str]
    left: bool = False
    """No master, but what is there of one whose transfer was cut off; `holders`: who is at it."""

    def unneeded(self, named: Collection[str], before: datetime) -> bool:
        """Whether nothing needs it: held by nobody, from before, and no master of a `named` content."""
        return not self.holders and self.changed < before and (self.left or self.sha256 not in named)


@runtime_checkable
class Masters(Protocol):
    """Keeps contents of images on VM hosts, beneath the disks of machines, and can make room of what nothing needs."""

    def masters(self, host: VmHost) -> Sequence[StoredMaster]:
        """All that lie there, whole or not. Changes nothing."""
        ...

    def remove_masters(
        self, host: VmHost, named: Callable[[], Collection[str]], before: datetime
    ) -> Sequence[StoredMaster]:
        """Removes those that came before, that nothing there rests on, and whose SHA-256 is not `named`; returns them.

        No load relies on a master meanwhile without asking again for it; `named` is asked when that is so.
        """
        ...


@runtime_checkable
class Disks(Protocol):
    """Measures the disks of a VM host, so that it is seen before one is full."""

    def disks(self, host: VmHost) -> HostDisks:
        """As they are now; a folder that is not there yet will be on the disk of the one above. Changes nothing."""
        ...


@runtime_checkable
class Addresses(Protocol):
    """Knows the addresses of a machine, and can give it a fixed one."""

    def addresses(self, computer: Computer) -> Sequence[Address]: ...

    def set_address(self, computer: Computer, address: Address) -> None: ...


@runtime_checkable
class Snapshots(Protocol):
    """Takes, lists, goes back to and removes snapshots of a machine."""

    def snapshot(self, computer: Computer, name: str) -> None: ...

    def snapshots(self, computer: Computer) -> Sequence[str]: ...

    def revert(self, computer: Computer, name: str) -> None: ...

    def delete_snapshot(self, computer: Computer, name: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class LocalImage:
    """An image for a local lab. `profile`: one of `vcl build list`, built if need be; empty: nothing to build."""

    name: str
    os: str
    os_module: str
    profile: str
    min_ram_mb: int
    sudo: bool


@dataclass(frozen=True, kw_only=True)
class LocalSlot:
    """A computer of a local lab."""

    name: str
    mac: str
    private_address: str


@dataclass(frozen=True, kw_only=True)
class LocalLab:
    """A hypervisor of one's own on this machine: what `vcl up` puts in the database."""

    host_name: str
    host_address: str
    repository_path: str
    datastore_path: str
    vm_path: str
    network: str
    images: Sequence[LocalImage]
    slots: Sequence[LocalSlot]
    overrides: Mapping[str, object]


@runtime_checkable
class LocalHost(Protocol):
    """A module that can set up, and take down, a hypervisor of its own on this machine, for `vcl up` and the demo."""

    @classmethod
    def missing(cls) -> Sequence[str]:
        """What this machine lacks, one line each with how to get it; empty if `up` can be called."""
        ...

    @classmethod
    def up(cls, folder: Path, slots: int) -> LocalLab:
        """Brings it up under `folder` (again: finds it as it is) with so many slots."""
        ...

    @classmethod
    def down(cls, folder: Path) -> None:
        """Stops and removes what `up` made, but the images; succeeds if nothing is there."""
        ...
