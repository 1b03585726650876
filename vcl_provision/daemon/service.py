"""The daemon's life: start, ticks, reload, drain, end."""

from __future__ import annotations

import gc
import queue
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from vcl_provision.daemon.listener import DatabaseListener
from vcl_provision.daemon.parts import Parts, build
from vcl_provision.daemon.settings import Settings, read_settings
from vcl_provision.daemon.ticks import Tick, Ticks
from vcl_provision.model.faults import SettingsError
from vcl_provision.store import builds, claims, journal, nodes
from vcl_provision.store.database import Connection, DatabaseAway

log = structlog.get_logger(__name__)

HAND_BACK = 10.0
"""Seconds that work which was told to stop may take to hand its reservation back."""
LAST_WORDS = 2.0
"""Seconds that a daemon which ends waits for its database: what it cannot say any more, the end of its leases says."""


class Announce(Protocol):
    """Tells the service manager how it goes."""

    def ready(self) -> None: ...

    def reloading(self) -> None: ...

    def stopping(self) -> None: ...

    def alive(self) -> None: ...


class Silent:
    """There is no service manager."""

    def ready(self) -> None: ...

    def reloading(self) -> None: ...

    def stopping(self) -> None: ...

    def alive(self) -> None: ...


@dataclass(kw_only=True)
class Service:
    """One running daemon. `run` returns when it was told to stop and has drained."""

    settings: Settings
    announce: Announce
    _orders: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue[str])

    def order(self, what: str) -> None:
        """`stop`, `reload` or `usurped`; safe in a signal handler."""
        self._orders.put(what)

    def run(self) -> int:
        """Exit status: 0 after an orderly stop, 1 if another daemon took the node's name.

        Raises SettingsError and DatabaseAway if it cannot start.
        """
        parts = build(self.settings)
        listener = self._listener(parts)
        try:
            listener.start()
            return self._serve(parts, listener)
        finally:
            parts.close()

    def _serve(self, parts: Parts, listener: DatabaseListener) -> int:
        with parts.database.session() as conn:
            freed = claims.free_own(conn, parts.node_id)
        parts.scribe.start()
        ticks = Ticks(self._ticks(parts))
        ticks.start()
        if parts.pull is not None:
            parts.pull.start()
        parts.claimer.start()
        gc.freeze()  # what is there by now stays; not to be looked through by each collection
        log.info("vcld.started", node=self.settings.node.known_as, taken_up_again=freed)
        self.announce.ready()
        why = self._obey(parts)
        self.announce.stopping()
        log.info("vcld.stopping", because=why, in_hand=len(parts.runs.all()))
        self._drain(parts)
        ticks.stop()
        listener.stop()
        log.info("vcld.stopped", because=why)
        return 0 if why == "stop" else 1

    def _obey(self, parts: Parts) -> str:
        while True:
            order = self._orders.get()
            if order != "reload":
                return order
            self._reload(parts)

    def _reload(self, parts: Parts) -> None:
        """Takes what can change in a running daemon: limits, budgets, breakers, timings. The rest needs a restart."""
        self.announce.reloading()
        try:
            settings = read_settings(self.settings.source)
        except SettingsError as no:
            log.error("settings.not_reloaded", because=str(no))  # noqa: TRY400 - the message says all; no traceback
        else:
            parts.reload(settings)
            log.info("settings.reloaded", source=str(settings.source))
        self.announce.ready()

    def _drain(self, parts: Parts) -> None:
        """Claims nothing more; lets what is in hand finish for a while, then hands it back as it is."""
        parts.database.patience = LAST_WORDS
        parts.claimer.stop()
        if not parts.runs.wait_empty(self.settings.work.drain):
            for run in parts.runs.all():
                run.hand_back()
            if not parts.runs.wait_empty(HAND_BACK):
                log.warning("drain.left", reservations=[run.claim.reservation_id for run in parts.runs.all()])
        asks(parts, claims.call_all)()  # the others have not reckoned with what was ours to wait for

    def _listener(self, parts: Parts) -> DatabaseListener:
        return DatabaseListener(
            database=parts.database,
            node=self.settings.node.known_as,
            on_due=lambda queue: parts.claimer.wake(queue=queue),
            on_cancel=parts.leases.look_again,
            on_connected=parts.look_everywhere,
            on_usurped=lambda: self.order("usurped"),
        )

    def _ticks(self, parts: Parts) -> list[Tick]:
        work, keep = self.settings.work, self.settings.keep
        node_id = parts.node_id
        return [
            Tick(name="claim", every=work.tick, act=parts.claimer.wake),
            Tick(name="renew", every=work.lease / 3, act=parts.leases.renew, own_thread=True),
            Tick(name="wait in vain", every=work.tick, act=guarded(parts.claimer.allocator.give_up_waiting)),
            Tick(name="reap", every=work.tick, act=guarded(parts.reaper.reap)),
            Tick(
                name="disks",
                every=work.measure_disks,
                act=guarded(parts.disk_watch.look),
                own_thread=True,
                at_once=True,
            ),
            Tick(name="check in", every=work.tick, act=asks(parts, lambda conn: nodes.check_in(conn, node_id))),
            Tick(
                name="prune",
                every=3600,
                act=asks(parts, lambda conn: journal.prune(conn, journal=keep.journal, load_log=keep.load_log)),
            ),
            Tick(
                name="prune builds",
                every=3600,
                act=asks(parts, lambda conn: builds.prune(conn, older_than=keep.builds)),
            ),
            Tick(name="alive", every=5, act=self.announce.alive),
        ]


def guarded(act: Callable[[], None]) -> Callable[[], None]:
    """A tick that is let be while the database is away."""

    def once() -> None:
        try:
            act()
        except DatabaseAway as away:
            log.debug("tick.skipped", because=str(away))

    return once


def asks(parts: Parts, question: Callable[[Connection], object]) -> Callable[[], None]:
    """A tick that asks the database one thing."""

    def act() -> None:
        with parts.database.session() as conn:
            question(conn)

    return guarded(act)


def run(settings: Settings, announce: Announce | None = None) -> int:
    """Runs `vcld` in this process until SIGTERM or SIGINT; SIGHUP reloads the settings. Returns the exit status."""
    service = Service(settings=settings, announce=announce or Silent())
    for number, order in ((signal.SIGTERM, "stop"), (signal.SIGINT, "stop"), (signal.SIGHUP, "reload")):
        signal.signal(number, lambda _number, _frame, order=order: service.order(order))
    return service.run()
