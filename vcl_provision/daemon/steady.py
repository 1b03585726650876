"""Asking a database that may be away for a while: work in hand waits for it and goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from vcl_provision.channels.patience import Stop
from vcl_provision.model.faults import Cancelled
from vcl_provision.store.database import Connection, Database, DatabaseAway

log = structlog.get_logger(__name__)

T = TypeVar("T")

LONGEST = 5.0
"""Seconds, the longest pause between two tries."""


@dataclass(frozen=True, kw_only=True)
class SteadyDatabase:
    """Each question is asked again, ever more slowly, until the database answers or the work is to stop.

    A question may so be asked twice of which the first answer was lost on the way: those that write check the claim's
    token or can be repeated.
    """

    database: Database
    stop: Stop

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Asks once the database answers. Raises Cancelled if the work is to stop while it is away."""
        return self._asked(lambda: self._in_session(question))

    def _in_session(self, question: Callable[[Connection], T]) -> T:
        with self.database.session() as conn:
            return question(conn)

    def _asked(self, once: Callable[[], T]) -> T:
        pause = 0.1
        while True:
            try:
                return once()
            except DatabaseAway as away:
                log.warning("work.waits_for_database", because=str(away))
                if self.stop.wait(pause):
                    raise Cancelled from away
                pause = min(LONGEST, pause * 2)
