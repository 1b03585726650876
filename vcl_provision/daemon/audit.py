"""Hears of every command: those that change something go to the journal, all are counted."""

from __future__ import annotations

import shlex
import threading
from collections import Counter
from dataclasses import dataclass, field

from structlog.contextvars import get_contextvars

from vcl_provision.daemon.scribe import Scribe
from vcl_provision.model.faults import Ran
from vcl_provision.store.journal import Line

KEPT = 2000
"""Characters of a command's output that the journal keeps: the last ones, where the reason stands."""


@dataclass(frozen=True)
class JournalAudit:
    """channels' `Audit`. Which reservation a command was run for is bound to the worker's context by the conductor."""

    scribe: Scribe
    counts: Counter[str] = field(default_factory=Counter[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ran(self, where: str, ran: Ran, *, changes: bool) -> None:
        with self._lock:
            self.counts[where] += 1
        if not changes:
            return
        bound = get_contextvars()
        self.scribe.write(
            Line(
                kind="command",
                said=shlex.join(ran.argv),
                request_id=bound.get("request"),
                reservation_id=bound.get("reservation"),
                fields={
                    "where": where,
                    "status": ran.status,
                    "seconds": round(ran.seconds, 3),
                    "output": (ran.stdout + ran.stderr)[-KEPT:],
                },
            )
        )
