"""Looks from time to time how much room VM hosts have, so that none is full before somebody sees it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import structlog

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.breaker import Breakers
from vcl_provision.daemon.host_work import HostWork
from vcl_provision.drivers.provisioner import Disks
from vcl_provision.model.faults import ProvisionError
from vcl_provision.model.lab import VmHost
from vcl_provision.model.space import A_MACHINE, HostDisks
from vcl_provision.store.database import Database, DatabaseAway
from vcl_provision.store.disks import Measured, put_measured
from vcl_provision.store.vm_hosts import vm_hosts

log = structlog.get_logger(__name__)

AT_ONCE = 8
"""Hosts asked at a time: one that hangs does not keep the others from being seen."""
ANSWERS = 15.0
"""Seconds that a host may take."""
EARLY = 0.9
"""What another node measured so large a part of the interval ago is as good as new."""


@dataclass(frozen=True, kw_only=True)
class DiskWatch:
    """One tick's work; `every` is the seconds between two of them. Of several nodes the first to look is enough."""

    database: Database
    work: HostWork
    breakers: Breakers
    every: float

    def look(self) -> None:
        """Measures what was not lately, and writes it down. A host that is away keeps what was seen last."""
        with self.database.session() as conn:
            due = vm_hosts(conn, not_measured_for=self.every * EARLY)
        away = self.breakers.cooling()
        hosts = [host for host in due if host.id not in away]
        if not hosts:
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(hosts)), thread_name_prefix="disks") as threads:
            measured = [disk for disks in threads.map(self._measured, hosts) for disk in disks]
        if measured:
            with self.database.session() as conn:
                put_measured(conn, measured)

    def look_at(self, host: VmHost) -> None:
        """Measures one that was just found full, so that nothing more is sent there until it has room."""
        measured = self._measured(host)
        if measured:
            with suppress(DatabaseAway), self.database.session() as conn:  # the next tick says it
                put_measured(conn, measured)

    def _measured(self, host: VmHost) -> Sequence[Measured]:
        try:
            module = self.work.module(host, Disks, Patience(ANSWERS))
            return [] if module is None else _both(host, cast("Disks", module).disks(host))
        except ProvisionError as no:
            log.info("disks.not_measured", host=host.name, because=no.said)
        except Exception:
            log.exception("disks.broke", host=host.name, module=host.provisioning_module)
        return []


def _both(host: VmHost, disks: HostDisks) -> list[Measured]:
    """With what each must have free: what stays free, and where machines are made, room for one more."""
    return [
        Measured(
            host_id=host.id,
            holds=holds,
            path=disk.path,
            total=disk.total,
            free=disk.free,
            least=disk.kept(host.profile.keep_free_mb) + more,
        )
        for holds, disk, more in (("masters", disks.masters, 0), ("machines", disks.machines, A_MACHINE))
    ]
