"""Builds the daemon's parts, by hand and in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial

import structlog

from vcl_provision.channels.guests import GuestConnections
from vcl_provision.channels.keys import management_key
from vcl_provision.channels.local import LocalChannel
from vcl_provision.daemon.allocator import Allocator
from vcl_provision.daemon.audit import JournalAudit
from vcl_provision.daemon.breaker import Breakers
from vcl_provision.daemon.claimer import Claimer, Limits
from vcl_provision.daemon.conductor import Conductor
from vcl_provision.daemon.disk_watch import DiskWatch
from vcl_provision.daemon.host_work import HostWork
from vcl_provision.daemon.kept import KeptThings
from vcl_provision.daemon.leases import Leases
from vcl_provision.daemon.pull import KeptOffers, OfferedByHttp, PullServer, journalled
from vcl_provision.daemon.reaper import Reaper
from vcl_provision.daemon.runs import Runs
from vcl_provision.daemon.scribe import Scribe
from vcl_provision.daemon.settings import FirstBootSettings, Settings
from vcl_provision.daemon.toolbox import Toolbox
from vcl_provision.drivers.loading import Modules
from vcl_provision.drivers.task import NoPull, Pull
from vcl_provision.model.states import RequestState
from vcl_provision.store import migrate, nodes
from vcl_provision.store.database import PATIENCE, Database, DatabaseAway, require_reachable
from vcl_provision.store.locks import LabLocks

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A daemon, built and not yet running."""

    settings: Settings
    node_id: int
    database: Database
    scribe: Scribe
    toolbox: Toolbox
    runs: Runs
    leases: Leases
    claimer: Claimer
    reaper: Reaper
    disk_watch: DiskWatch
    pull: PullServer | None

    def reload(self, settings: Settings) -> None:
        """Takes from new settings what can change while work is in hand: budgets, timings, breakers, host limits."""
        conductor, breakers = self.claimer.conductor, self.claimer.breakers
        conductor.timings, conductor.budgets = settings.timing, _budgets(settings)
        breakers.failures, breakers.cooldown = settings.breaker.failures, settings.breaker.cooldown
        self.claimer.limits = replace(self.claimer.limits, per_host=settings.work.per_host)
        self.claimer.wake()

    def look_everywhere(self) -> None:
        """The database was away: look at what is in hand, and for what is due."""
        self.leases.renew()
        self.claimer.wake()

    def close(self) -> None:
        """What is left when nothing works any more."""
        self.claimer.close()
        if self.pull is not None:
            self.pull.stop()
        self.scribe.stop()
        self.toolbox.connections.close()
        self.toolbox.kept.close()
        self.database.close()


def build(settings: Settings) -> Parts:
    """Connects to the database and makes everything else.

    Raises SettingsError, DatabaseAway if the database does not answer, Refused if it is not of this version or its DSN
    is none.
    """
    _wait_for_database(settings.database.dsn)
    database = Database(settings.database.dsn, max_size=settings.database.pool)
    scribe = Scribe(database)
    toolbox = _toolbox(settings, database, scribe)
    with database.session() as conn:
        migrate.require_current(conn)
        node_id = nodes.register_node(conn, settings.node.known_as)
    runs = Runs()
    leases = Leases(database=database, runs=runs, seconds=settings.work.lease)
    claimer = _claimer(settings, node_id, database, scribe, toolbox, leases)
    return Parts(
        settings=settings,
        node_id=node_id,
        database=database,
        scribe=scribe,
        toolbox=toolbox,
        runs=runs,
        leases=leases,
        claimer=claimer,
        reaper=Reaper(database=database, leases=leases, wake=claimer.wake),
        disk_watch=claimer.conductor.disk_watch,
        pull=_pull_server(settings.firstboot, database, scribe),
    )


def _wait_for_database(dsn: str) -> None:
    """A machine that starts may start its database after us."""
    try:
        require_reachable(dsn, seconds=0)
    except DatabaseAway as away:
        log.warning("database.awaited", because=str(away), seconds=PATIENCE)
        require_reachable(dsn)


def _toolbox(settings: Settings, database: Database, scribe: Scribe) -> Toolbox:
    audit = JournalAudit(scribe)
    source = str(settings.source or "vcld.toml")
    modules = Modules(settings.modules.module_path, settings.modules.options, settings=source)
    modules.check_options()
    key = management_key(settings.ssh.key)
    return Toolbox(
        modules=modules,
        local=LocalChannel(audit=audit),
        connections=GuestConnections(key=key, user=settings.ssh.user, audit=audit),
        kept=KeptThings(),
        locks=LabLocks(database=database),
        pull=_offered(settings.firstboot, database),
    )


def _offered(settings: FirstBootSettings, database: Database) -> Pull:
    if not settings.pull_listen:
        return NoPull()
    base = settings.pull_url or f"http://{settings.pull_listen}"
    return OfferedByHttp(database=database, base=base, seconds=settings.pull_lasts)


def _pull_server(settings: FirstBootSettings, database: Database, scribe: Scribe) -> PullServer | None:
    if not settings.pull_listen:
        return None
    return PullServer(settings.pull_listen, KeptOffers(database=database), hear=partial(journalled, scribe))


def _budgets(settings: Settings) -> dict[RequestState, float]:
    return {RequestState(name): seconds for name, seconds in asdict(settings.budget).items()}


def _claimer(
    settings: Settings, node_id: int, database: Database, scribe: Scribe, toolbox: Toolbox, leases: Leases
) -> Claimer:
    breakers = Breakers(failures=settings.breaker.failures, cooldown=settings.breaker.cooldown)
    conductor = Conductor(
        database=database,
        scribe=scribe,
        toolbox=toolbox,
        breakers=breakers,
        disk_watch=DiskWatch(
            database=database,
            work=HostWork(modules=toolbox.modules, kept=toolbox.kept, locks=toolbox.locks),
            breakers=breakers,
            every=settings.work.measure_disks,
        ),
        timings=settings.timing,
        budgets=_budgets(settings),
        management_keys=(management_key(settings.ssh.key).public,),
        parameters=settings.firstboot.parameters,
    )
    work = settings.work
    return Claimer(
        node_id=node_id,
        database=database,
        conductor=conductor,
        allocator=Allocator(database=database),
        breakers=breakers,
        runs=leases.runs,
        leases=leases,
        limits=Limits(workers=work.workers, per_host=work.per_host, tick=work.tick),
    )
