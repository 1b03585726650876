"""failed: what had been done is undone; the request stays, with the reason, until people have seen it."""

from __future__ import annotations

from vcl_provision.model.states import Event
from vcl_provision.workflow.outcome import Done, Outcome
from vcl_provision.workflow.work import Work


def handle(work: Work) -> Outcome:
    if work.reservation.occupies:
        work.record.undo(scope="computer")
    return Done(event=Event.RECLAIMED)
