"""reload: a computer with the image, for whoever comes next."""

from __future__ import annotations

from dataclasses import replace

from vcl_provision.model.faults import NoRoom
from vcl_provision.model.states import Event
from vcl_provision.workflow.handlers.new import OCCUPIED_POLL
from vcl_provision.workflow.handlers.ready import leave, make_ready
from vcl_provision.workflow.outcome import Again, Done, Outcome
from vcl_provision.workflow.work import Work


def handle(work: Work) -> Outcome:
    if work.now >= work.request.end_time:
        return Done(event=Event.ENDED)
    computer = work.record.occupy()
    if computer is None:
        return Again(after=OCCUPIED_POLL, because=f"{work.computer.name} is in use")
    try:
        work = make_ready(replace(work, computer=computer))
    except NoRoom as full:
        return leave(work, full)
    return Done(event=Event.LOADED)
