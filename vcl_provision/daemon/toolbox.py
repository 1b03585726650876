"""Makes the modules of one piece of work, with their tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vcl_provision.channels.guests import GuestConnections
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.daemon.kept import KeptThings
from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.loading import Modules
from vcl_provision.drivers.provisioner import GuestExec, Provisioner
from vcl_provision.drivers.task import Effects, Guests, NoPull, Progress, Pull, Room, Task
from vcl_provision.model.faults import BrokenModule
from vcl_provision.model.lab import Computer
from vcl_provision.store.locks import LabLocks


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What differs from one piece of work to the next; `effects` makes the port of one module: (kind, module)."""

    owner: str
    computer: Computer
    patience: Patience
    progress: Progress
    effects: Callable[[str, str], Effects]
    room: Room


@dataclass(frozen=True, kw_only=True)
class Toolbox:
    """What is the same for all work of this daemon."""

    modules: Modules
    local: Channel
    connections: GuestConnections
    kept: KeptThings
    locks: LabLocks
    pull: Pull = field(default_factory=NoPull)

    def provisioner(self, name: str, ports: Ports) -> Provisioner[Any]:
        """Raises BrokenModule if there is no such module, or it cannot be used."""
        module = self.modules.provisioner(name)
        ways_in = WaysIn(self.connections)
        task = self._task(ports, ("provisioning", name), ways_in)
        provisioner = module(self.modules.options("provisioning", name), task)
        if isinstance(provisioner, GuestExec):
            ways_in.inside = provisioner
        return provisioner

    def guest(self, name: str, provisioner: Provisioner[Any], ports: Ports) -> Guest[Any]:
        """The OS module `name`, which reaches the machine's inside as `provisioner` lets it."""
        module = self.modules.guest(name)
        return module(self.modules.options("os", name), self._task(ports, ("os", name), provisioner.task.guests))

    def _task(self, ports: Ports, module: tuple[str, str], guests: Guests) -> Task:
        return Task(
            owner=ports.owner,
            computer=ports.computer,
            patience=ports.patience,
            effects=ports.effects(*module),
            progress=ports.progress,
            local=self.local,
            guests=guests,
            kept=self.kept,
            locks=self.locks,
            pull=self.pull,
            room=ports.room,
        )


class Unusable:
    """In the place of a module that cannot be used, for work that may get by without it; whoever asks it hears why."""

    def __init__(self, why: BrokenModule) -> None:
        self._why = why

    def __getattr__(self, name: str) -> Any:
        raise self._why


@dataclass
class WaysIn:
    """drivers' `Guests`: through the hypervisor where it runs commands inside, else over the kept connections."""

    connections: GuestConnections
    inside: GuestExec | None = None

    def channel(self, computer: Computer, *, patience: Patience) -> Channel:
        if self.inside is None:
            return self.connections.channel(computer, patience=patience)
        patience.check()
        return self.inside.guest_channel(computer)

    def forget(self, computer: Computer) -> None:
        self.connections.forget(computer)
