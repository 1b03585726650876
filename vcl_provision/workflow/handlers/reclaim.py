"""reclaim: the computer back, with nothing of its user left on it."""

from __future__ import annotations

from vcl_provision.model.states import Event
from vcl_provision.model.steps import Step
from vcl_provision.workflow.outcome import Done, Outcome
from vcl_provision.workflow.work import Work


def handle(work: Work) -> Outcome:
    """A machine that nobody was in is cleaned and kept, loaded, for the next user; any other is removed."""
    if not work.reservation.occupies:
        return Done(event=Event.RECLAIMED)
    work.record.say(Step.REMOVING)
    if _untouched(work):
        work.guest.sanitize(work.computer, work.user)
        work.record.undo(scope="reservation")
    else:
        work.record.undo(scope="computer")
    return Done(event=Event.RECLAIMED)


def _untouched(work: Work) -> bool:
    return work.computer.prepared and work.computer.loaded_revision_id is not None and not work.computer.tainted
