"""Keeps the leases of what is in hand, and stops work that nobody wants any more."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from vcl_provision.daemon.runs import Run, Runs
from vcl_provision.daemon.stop import WorkStop
from vcl_provision.model.reservation import Claim, Renewal
from vcl_provision.store import claims
from vcl_provision.store.database import Database, DatabaseAway

log = structlog.get_logger(__name__)

PAUSE = 0.5
"""Seconds between two tries to be sure of a lease."""


@dataclass(kw_only=True)
class Leases:
    """Renewed by a thread of their own, so that no work, however busy, lets them end."""

    database: Database
    runs: Runs
    seconds: float

    def hold(self, claim: Claim, *, since: float) -> Run:
        """A claim that was just made: `since` is a moment before that, on the monotonic clock."""
        stop = WorkStop(sure_until=since + self.seconds, make_sure=lambda: self._make_sure(run))
        run = Run(claim=claim, stop=stop)
        return run

    def renew(self) -> None:
        """One statement for all. A lease that is gone ends its work; a request that changed stops it at its next wait.

        While the database is away for shorter than a lease nothing is stopped; then each waits at its next step until
        it is sure again: another node may be nearer to the database, and have its work.
        """
        self._look(self.runs.all())

    def look_again(self, reservations: Collection[int]) -> None:
        """Somebody changed the requests of these reservations; those in hand here are stopped if it matters to them."""
        self._look([run for run in self.runs.all() if run.claim.reservation_id in reservations])

    def _make_sure(self, run: Run) -> None:
        """Called by the work itself, when nobody renewed its lease in time."""
        log.warning("lease.unsure", reservation=run.claim.reservation_id)
        if not self._look([run]) or time.monotonic() >= run.stop.sure_until:
            run.stop.pause(PAUSE)

    def _look(self, held: Sequence[Run]) -> bool:
        """False if the database is away."""
        if not held:
            return True
        began = time.monotonic()
        try:
            with self.database.session() as conn:
                renewed = claims.renew(conn, claims=[run.claim for run in held], lease_seconds=self.seconds)
        except DatabaseAway as away:
            log.warning("leases.unrenewed", held=len(held), because=str(away))
            return False
        found = {renewal.token: renewal for renewal in renewed}
        for run in held:
            tell(run, found.get(run.claim.token), began)
        return True


def tell(run: Run, renewal: Renewal | None, asked_at: float) -> None:
    if renewal is None:
        run.lose()
        return
    run.stop.sure_until = asked_at + renewal.lease
    run.stop.move_end(renewal.remaining)
    if renewal.state is not run.claim.state:
        run.stop.set()
