"""Room on VM hosts for what work in hand brings there: over all nodes, no two are let in where only one fits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.steady import SteadyDatabase
from vcl_provision.drivers.task import Progress
from vcl_provision.model.lab import VmHost
from vcl_provision.model.reservation import Claim
from vcl_provision.model.space import Space
from vcl_provision.model.steps import Step
from vcl_provision.store import transfers

EVERY = 0.5
"""Seconds between two looks of who waits for others' transfers."""


@dataclass(frozen=True, kw_only=True)
class ClaimedRoom:
    """drivers' `Room`, of one turn: what it brings is written down, and counts while its claim is held."""

    database: SteadyDatabase
    claim: Claim
    progress: Progress

    @contextmanager
    def for_masters(
        self, host: VmHost, needed: Callable[[], int], measure: Callable[[], Space], *, patience: Patience
    ) -> Generator[None]:
        """See drivers' Room. Where all that is under way does not fit together, the later waits for the earlier.

        It is refused by what is free when none is before it: an earlier one may fail, or bring what it needs itself.
        """
        size = needed()
        if not size:
            yield
            return
        number = self.database.ask(lambda conn: transfers.begin(conn, self.claim, host_id=host.id, size=size))
        try:
            self._wait(number, host, needed, measure, patience)
            yield
        finally:
            self.database.ask(lambda conn: transfers.end(conn, number))

    def _wait(
        self, number: int, host: VmHost, needed: Callable[[], int], measure: Callable[[], Space], patience: Patience
    ) -> None:
        waits = False

        def admitted() -> bool:
            nonlocal waits
            # Asked before it is measured: one that ends in between counts twice, and not never.
            before = self.database.ask(lambda conn: transfers.before(conn, number))
            space, size = measure(), needed()
            if not before:
                space.require(size, host.profile.keep_free_mb)
            elif not space.fits(size + before, host.profile.keep_free_mb):
                if not waits:
                    waits = True
                    self.progress.say(Step.COPYFROMPARTNER, _waits_for(host, before))
                return False
            return True

        patience.until(admitted, f"other images to be on {host.name}, and room for this one beside them", every=EVERY)


def _waits_for(host: VmHost, before: int) -> str:
    return f"waits for room on {host.name}: {-(-before >> 20)} MB of other images are on their way there"
