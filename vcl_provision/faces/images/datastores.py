"""Masters on VM hosts that nothing needs: no revision of any repository of the lab, no machine, no disk."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import Any, NoReturn, cast

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.kept import KeptThings
from vcl_provision.drivers.loading import Modules
from vcl_provision.drivers.provisioner import Masters, Provisioner, StoredMaster
from vcl_provision.drivers.task import Task
from vcl_provision.images.repository import open_repository
from vcl_provision.model.faults import BrokenModule, CommandFailed, Refused, TimedOut, Transient
from vcl_provision.model.lab import Computer, VmHost
from vcl_provision.model.states import ComputerKind, ComputerState
from vcl_provision.model.steps import Step
from vcl_provision.store import revisions
from vcl_provision.store.database import Database
from vcl_provision.store.locks import LabLocks
from vcl_provision.store.vm_hosts import contents_counted_on, vm_hosts

CONNECTIONS = 2
"""To the database, beside the one of the locks: hosts are asked one after the other."""


@dataclass(frozen=True, kw_only=True)
class OnHost:
    """What was found on a VM host; `fault` says why nothing could be, or was to be."""

    host: str
    masters: Sequence[StoredMaster] = ()
    fault: str = ""


@dataclass(frozen=True)
class Datastores:
    """Those of all VM hosts of a lab whose modules have masters."""

    database: Database
    modules: Modules
    patience: Patience
    kept: KeptThings = field(default_factory=KeptThings)

    def unneeded(self, before: datetime) -> Iterator[OnHost]:
        """What `remove` would remove now. A host that is away stops no other."""
        for host, module in self._hosts():
            with _told(host) as found:
                named = self._named()
                found.extend(
                    each
                    for each in module.masters(host)
                    if each.sha256 not in named and not each.holders and each.changed < before
                )
            yield found.seen

    def remove(self, before: datetime) -> Iterator[OnHost]:
        """Removes, on each host under its lock, what came before and is needed by nothing when the lock is held."""
        for host, module in self._hosts():
            with _told(host) as found:
                found.extend(module.remove_masters(host, self._named, before))
            yield found.seen

    def _named(self) -> set[str]:
        """Raises Refused while any repository has a bad descriptor: what it names cannot be known."""
        with self.database.session() as conn:
            addresses, named = revisions.repositories(conn), contents_counted_on(conn)
        for address in addresses:
            with closing(open_repository(address)) as repository:
                listing = repository.revisions()
                for bad in listing.bad:
                    said = f"{repository} has a bad descriptor, {bad.name}, and what it names cannot be known"
                    raise Refused(said, "restore it, or remove it with vcl images delete")
                named |= {blob.sha256 for descriptor in listing.good for blob in descriptor.blobs}
        return named

    def _hosts(self) -> Iterator[tuple[VmHost, Masters]]:
        with self.database.session() as conn:
            hosts = vm_hosts(conn)
        for host in hosts:
            try:
                module = self.modules.provisioner(host.provisioning_module)
                options = self.modules.options("provisioning", host.provisioning_module)
            except BrokenModule:
                continue  # nothing of its can be asked; vcl module list says why
            if Masters in module.__mro__:
                yield host, cast("Masters", self._made(module, options, host))

    def _made(self, module: type[Provisioner[Any]], options: Any, host: VmHost) -> Provisioner[Any]:
        nobody = _Nobody()
        return module(
            options,
            Task(
                owner="",
                computer=_no_computer(host),
                patience=self.patience,
                effects=nobody,
                progress=nobody,
                local=LocalChannel(),
                guests=nobody,
                kept=self.kept,
                locks=LabLocks(database=self.database),
            ),
        )


class _Found(list[StoredMaster]):
    """Filled while a host is asked."""

    def __init__(self, host: VmHost) -> None:
        super().__init__()
        self.host, self.fault = host, ""

    @property
    def seen(self) -> OnHost:
        return OnHost(host=self.host.name, masters=tuple(self), fault=self.fault)


@contextmanager
def _told(host: VmHost) -> Generator[_Found]:
    found = _Found(host)
    try:
        yield found
    except (Refused, Transient, TimedOut, CommandFailed) as no:
        found.fault = no.said


def _no_computer(host: VmHost) -> Computer:
    """The work is about the host itself."""
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
        raise Refused(f"{action} cannot be undone here", "this is a defect of the module: masters are not effects")

    def channel(self, computer: Computer, **_: object) -> NoReturn:
        raise Refused(f"{computer.name} is no guest", "this is a defect of the module")

    def forget(self, computer: Computer) -> None:
        """There is none."""
