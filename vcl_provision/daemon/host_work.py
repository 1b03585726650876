"""Modules for work that is about a VM host itself, and about no computer on it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NoReturn

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.loading import Modules
from vcl_provision.drivers.provisioner import Provisioner
from vcl_provision.drivers.task import Kept, Locks, Task
from vcl_provision.model.faults import BrokenModule, Refused
from vcl_provision.model.lab import Computer, VmHost
from vcl_provision.model.states import ComputerKind, ComputerState
from vcl_provision.model.steps import Step


@dataclass(frozen=True, kw_only=True)
class HostWork:
    """What such work is done with."""

    modules: Modules
    kept: Kept
    locks: Locks

    def module(self, host: VmHost, capability: type, patience: Patience) -> Provisioner[Any] | None:
        """The module of a VM host if it has this capability; None if it does not, or is broken (vcl module list)."""
        try:
            module = self.modules.provisioner(host.provisioning_module)
            options = self.modules.options("provisioning", host.provisioning_module)
        except BrokenModule:
            return None
        return module(options, self._task(host, patience)) if capability in module.__mro__ else None

    def _task(self, host: VmHost, patience: Patience) -> Task:
        nobody = _Nobody()
        return Task(
            owner="",
            computer=_no_computer(host),
            patience=patience,
            effects=nobody,
            progress=nobody,
            local=LocalChannel(),
            guests=nobody,
            kept=self.kept,
            locks=self.locks,
        )


def _no_computer(host: VmHost) -> Computer:
    return Computer(
        id=0,
        name=host.name,
        kind=ComputerKind.VIRTUALMACHINE,
        state=ComputerState.MAINTENANCE,
        provisioning_module=host.provisioning_module,
        private_address=ip_address("127.0.0.1"),
        host=host,
    )


class _Nobody:
    """Work on a host reaches no guest and needs no undo; who asked sees the result."""

    def say(self, step: Step, info: str = "") -> None:
        """Nobody watches."""

    def record(self, action: str, **_: object) -> NoReturn:
        raise Refused(f"{action} cannot be undone here", "this is a defect of the module: work on hosts has no effects")

    def channel(self, computer: Computer, **_: object) -> NoReturn:
        raise Refused(f"{computer.name} is no guest", "this is a defect of the module")

    def forget(self, computer: Computer) -> None:
        """There is none."""
