"""Collecting garbage over a lab: on its VM hosts, and in each of its repositories; what stops one stops no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.kept import KeptThings
from vcl_provision.drivers.loading import Modules
from vcl_provision.drivers.provisioner import StoredMaster
from vcl_provision.faces.errors import Failed
from vcl_provision.faces.images.datastores import CONNECTIONS, Datastores, OnHost
from vcl_provision.faces.place import Place
from vcl_provision.images.repository import Garbage, Repository, collect, garbage, open_repository
from vcl_provision.model.faults import Refused, TimedOut, Transient
from vcl_provision.store.database import Database

AT_MOST = 600.0
"""Seconds for a repository, and for all hosts."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was removed, or would be: in which repository or on which VM host, its path there, its bytes, and why."""

    where: str
    path: str
    bytes: int
    why: str


@dataclass(kw_only=True)
class Collection:
    """One run. What came after `now - grace` stays; `faults` say what could not be looked at, and why."""

    now: datetime
    grace: timedelta
    dry_run: bool
    removed: list[Removed] = field(default_factory=list[Removed])
    faults: list[Failed] = field(default_factory=list[Failed])

    def clean_repository(self, address: str) -> None:
        """What only this repository keeps: its contents are named by its own descriptors, whoever else has the same."""
        try:
            with closing(open_repository(address)) as repository:
                for each in self._of(repository):
                    self.removed.append(_in_repository(str(repository), each))
        except (Refused, Transient, TimedOut) as no:
            self.faults.append(Failed(f"nothing is removed from {address}: {no.said}", no.hint))

    def clean_hosts(self, place: Place) -> None:
        """Masters, and what transfers left beside them. None is removed that a revision of any repository names."""
        for seen in self._on_hosts(place):
            self.removed += [_on_host(seen.host, each) for each in seen.masters]
            if seen.fault:
                self.faults.append(Failed(f"masters stay on {seen.host}: {seen.fault}"))

    def _of(self, repository: Repository) -> Iterable[Garbage]:
        if self.dry_run:
            return garbage(repository, now=self.now, grace=self.grace)
        return collect(repository, now=self.now, grace=self.grace, patience=Patience(AT_MOST))

    def _on_hosts(self, place: Place) -> Iterator[OnHost]:
        modules = Modules(place.modules.module_path, place.modules.options)
        database, kept = Database(place.dsn, max_size=CONNECTIONS), KeptThings()
        with closing(database), closing(kept):
            datastores, before = Datastores(database, modules, Patience(AT_MOST), kept), self.now - self.grace
            yield from datastores.unneeded(before) if self.dry_run else datastores.remove(before)


def _in_repository(where: str, found: Garbage) -> Removed:
    return Removed(where=where, path=found.path, bytes=found.bytes, why=found.why)


def _on_host(host: str, found: StoredMaster) -> Removed:
    why = "left of a transfer that never ended" if found.left else "a master that nothing needs"
    return Removed(where=host, path=found.sha256, bytes=found.bytes, why=why)
