"""Gives out computers and claims what is due, whenever something wakes it; as far as there are free workers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from vcl_provision.daemon.alarm import Alarm
from vcl_provision.daemon.allocator import Allocator
from vcl_provision.daemon.breaker import Breakers
from vcl_provision.daemon.conductor import Conductor
from vcl_provision.daemon.leases import Leases
from vcl_provision.daemon.runs import Run, Runs
from vcl_provision.store import claims
from vcl_provision.store.database import Database, DatabaseAway

log = structlog.get_logger(__name__)

GATHER = 0.004
"""Seconds between two rounds at least: in a rush, what comes meanwhile is claimed together."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`workers` in all, `per_host` on each VM host; `tick` in seconds."""

    workers: int
    per_host: int
    tick: float


@dataclass(kw_only=True)
class Claimer:
    """One thread that claims, and a bounded pool that works. A full pool claims nothing more."""

    node_id: int
    database: Database
    conductor: Conductor
    allocator: Allocator
    breakers: Breakers
    runs: Runs
    leases: Leases
    limits: Limits
    _alarm: Alarm = field(default_factory=Alarm)
    _starved: bool = False
    _queue_changed: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _pool: ThreadPoolExecutor = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._queue_changed.set()
        self._pool = ThreadPoolExecutor(self.limits.workers, thread_name_prefix="worker")
        self._thread = threading.Thread(target=self._claim_on, name="claimer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self, *, queue: bool = True) -> None:
        """Something may be due; with `queue` also given a computer. Many wakes while it is busy are one."""
        if queue:
            self._queue_changed.set()
        self._alarm.ring()

    def stop(self) -> None:
        """Claims nothing more; what is in hand goes on."""
        self._stopping.set()
        self.wake()
        self._thread.join(timeout=30)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _claim_on(self) -> None:
        """A wake that comes while claiming is seen by the next round: the alarm falls silent before, not after."""
        pause = 0.0
        while not self._stopping.is_set():
            self._alarm.wait(pause)
            pause = self._round()
            self._stopping.wait(GATHER)

    def _round(self) -> float:
        """One round; seconds until the next is needed if nothing wakes it."""
        try:
            if self._queue_changed.is_set():
                self._queue_changed.clear()
                self.allocator.allocate()
            return self._claim()
        except DatabaseAway as away:
            log.warning("database.away", because=str(away))
            self._queue_changed.set()
            return 1.0
        except Exception:
            log.exception("round.broke")
            return self.limits.tick

    def _claim(self) -> float:
        while not self._stopping.is_set():
            room = self.limits.workers - len(self.runs)
            self._starved = room <= 0
            if self._starved:
                return self.limits.tick
            due = self._claim_some(room)
            if len(due.claims) < room:
                return self._pause(due.next_in)
        return self.limits.tick

    def _claim_some(self, room: int) -> claims.Due:
        began = time.monotonic()
        with self.database.session() as conn:
            due = claims.claim_due(
                conn,
                node_id=self.node_id,
                limit=room,
                lease_seconds=self.leases.seconds,
                per_host=self.limits.per_host,
                busy=self._busy(),
            )
        for claim in due.claims:
            self._begin(self.leases.hold(claim, since=began))
        return due

    def _begin(self, run: Run) -> None:
        self.runs.add(run)
        self._pool.submit(self._work, run)

    def _work(self, run: Run) -> None:
        try:
            self.conductor.conduct(run)
        except DatabaseAway as away:
            log.warning("turn.unwritten", reservation=run.claim.reservation_id, because=str(away))
        except Exception:
            log.exception("turn.broke", reservation=run.claim.reservation_id)
        finally:
            self.runs.remove(run)
            self._go_on(run)

    def _go_on(self, run: Run) -> None:
        """A worker is free again, its host perhaps too; and its reservation may be due before anything known so far."""
        if self._starved or self._was_full(run.claim.host_id):
            self.wake()
        elif run.due_in is not None:
            self._alarm.ring_in(run.due_in)

    def _was_full(self, host_id: int | None) -> bool:
        """Others may be due on the host that were passed over."""
        return host_id is not None and self.runs.on_host().get(host_id, 0) + 1 >= self.limits.per_host

    def _busy(self) -> dict[int, int]:
        """How many are at work on each host; one whose breaker is open counts as full."""
        busy = self.runs.on_host()
        return busy | dict.fromkeys(self.breakers.closed_hosts(busy), self.limits.per_host)

    def _pause(self, next_in: float | None) -> float:
        """Seconds until the next round is needed: something is due, a breaker has cooled down, or the tick."""
        coming = [self.limits.tick, *self.breakers.cooling().values(), *([] if next_in is None else [next_in])]
        return max(0.0, min(coming))
