"""new: a machine with the image, ready for its user."""

from __future__ import annotations

from dataclasses import replace

from vcl_provision.model.faults import NoRoom
from vcl_provision.model.states import Event, RequestState
from vcl_provision.model.steps import Step
from vcl_provision.workflow.handlers.ready import leave, make_ready
from vcl_provision.workflow.outcome import Again, Done, Outcome
from vcl_provision.workflow.work import Work

OCCUPIED_POLL = 30.0
"""Seconds; only a safety net: the computer's release makes the reservation due at once."""


def handle(work: Work) -> Outcome:
    if work.now >= work.request.end_time:
        return Done(event=Event.ENDED)
    computer = work.record.occupy()
    if computer is None:
        return Again(after=OCCUPIED_POLL, because=f"{work.computer.name} is still being taken back from its last user")
    try:
        work = make_ready(replace(work, computer=computer))
    except NoRoom as full:
        return leave(work, full)
    work.guest.reserve(work.computer, work.revision, work.user)
    if work.guest.add_user_in is RequestState.NEW:
        work.record.say(Step.ADDINGUSER)
        work.guest.add_user(work.computer, work.revision, work.user)
    return Done(event=Event.LOADED)
