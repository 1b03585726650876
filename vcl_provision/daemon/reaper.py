"""Frees what nodes that died had claimed; and sees when the database's clock jumps, so that nobody alive looks dead."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from vcl_provision.daemon.leases import Leases
from vcl_provision.store import claims
from vcl_provision.store.database import Connection, Database

log = structlog.get_logger(__name__)

JUMP = 1.0
"""Seconds by which two clocks may differ in a tick before one of them has jumped."""


@dataclass(kw_only=True)
class ClockWatch:
    """Compares two clocks from look to look. Each look is the other clock's moment, between two of ours."""

    _seen: tuple[float, float, float] | None = None

    def jumped(self, moment: float, *, before: float, after: float) -> float:
        """Seconds that the other clock went too far since the last look, below zero if back; 0 if that is not sure."""
        last, self._seen = self._seen, (moment, before, after)
        if last is None:
            return 0.0
        went = moment - last[0]
        least, most = went - (after - last[1]), went - (before - last[2])
        return least if least > JUMP else most if most < -JUMP else 0.0


@dataclass(kw_only=True)
class Reaper:
    """One tick's work."""

    database: Database
    leases: Leases
    wake: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    _watch: ClockWatch = field(default_factory=ClockWatch)
    _spares_until: float = -math.inf

    def reap(self) -> None:
        """After a jump the living get the length of a lease to renew theirs. Raises DatabaseAway."""
        with self.database.session() as conn:
            before = self.clock()
            moment = claims.moment(conn)
            jump = self._watch.jumped(moment, before=before, after=self.clock())
            if jump:
                self._after_jump(conn, jump)
            if self.clock() >= self._spares_until:
                claims.reap(conn)

    def _after_jump(self, conn: Connection, jump: float) -> None:
        log.warning("database.clock_jumped", seconds=round(jump, 1))
        self._spares_until = self.clock() + self.leases.seconds
        claims.look_at_all(conn, lease_seconds=self.leases.seconds)
        self.leases.renew()
        self.wake()
