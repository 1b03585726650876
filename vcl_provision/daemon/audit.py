"""Hears of every command: all go to the log at level debug, those that change something to the journal."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import structlog
from structlog.contextvars import get_contextvars

from vcl_provision.daemon.scribe import Scribe
from vcl_provision.model.faults import Ran
from vcl_provision.store.journal import Line

log = structlog.get_logger(__name__)

KEPT = 2000
"""Characters of a command's output that the journal keeps: the last ones, where the reason stands."""


@dataclass(frozen=True)
class JournalAudit:
    """channels' `Audit`. Which reservation a command was run for is bound to the worker's context by the conductor."""

    scribe: Scribe

    def ran(self, where: str, ran: Ran, *, changes: bool) -> None:
        # what has one word only is a script of ours by its title
        said, seconds = ran.argv[0] if len(ran.argv) == 1 else shlex.join(ran.argv), round(ran.seconds, 3)
        log.debug("command.ran", where=where, command=said, status=ran.status, seconds=seconds, changes=changes)
        if not changes:
            return
        bound = get_contextvars()
        self.scribe.write(
            Line(
                kind="command",
                said=said,
                request_id=bound.get("request"),
                reservation_id=bound.get("reservation"),
                fields={
                    "where": where,
                    "status": ran.status,
                    "seconds": seconds,
                    "output": (ran.stdout + ran.stderr)[-KEPT:],
                },
            )
        )
