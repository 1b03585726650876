"""Masters on VM hosts that nothing needs: no revision of any repository of the lab, no machine, no disk."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.host_work import HostWork
from vcl_provision.daemon.kept import KeptThings
from vcl_provision.drivers.loading import Modules
from vcl_provision.drivers.provisioner import Masters, StoredMaster
from vcl_provision.images.repository import open_repository
from vcl_provision.model.faults import CommandFailed, Refused, TimedOut, Transient
from vcl_provision.model.lab import VmHost
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
                found.extend(each for each in module.masters(host) if each.unneeded(named, before))
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
        work = HostWork(modules=self.modules, kept=self.kept, locks=LabLocks(database=self.database))
        for host in hosts:
            module = work.module(host, Masters, self.patience)
            if module is not None:
                yield host, cast("Masters", module)


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
