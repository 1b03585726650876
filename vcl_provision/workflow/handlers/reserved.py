"""reserved: ready; waits for the user to ask to be let in, lets them in, waits for them to come."""

from __future__ import annotations

from datetime import datetime

from vcl_provision.model.lab import Address
from vcl_provision.model.states import Event
from vcl_provision.model.steps import Step
from vcl_provision.workflow.handlers.access import counts_as_connected, is_in, let_in, seconds_left
from vcl_provision.workflow.outcome import Again, Done, Noted, Outcome
from vcl_provision.workflow.work import Work


def handle(work: Work) -> Outcome:
    if work.now >= work.request.end_time:
        return Done(event=Event.ENDED)
    address = work.request.remote_address
    if address is None:
        return _wait_for_acknowledgement(work)
    if work.reservation.granted_address != address:
        return _open_for(work, address)
    return _wait_for_connection(work, address)


def _open_for(work: Work, address: Address) -> Outcome:
    let_in(work, address)
    later, opened = work.guest.first_look, Noted(granted_address=address)
    if counts_as_connected(work) or (not later and is_in(work, address)):
        return _connected(work, address)
    return Again(after=later or _next_look(work, 0.0), because=_waits_for(address), noted=opened)


def _wait_for_acknowledgement(work: Work) -> Outcome:
    left = work.request.timings.acknowledgetimeout - _seconds_since(work, work.reservation.state_since)
    if left <= 0:
        return Done(event=Event.NO_ACKNOWLEDGEMENT)
    work.record.say(Step.RESERVED)
    return Again(after=min(left, seconds_left(work)), because="waiting for the user to ask to be let in")


def _wait_for_connection(work: Work, address: Address) -> Outcome:
    if counts_as_connected(work) or is_in(work, address):
        return _connected(work, address)
    since = work.request.acknowledged_at or work.reservation.state_since
    waited = _seconds_since(work, max(since, work.reservation.state_since))
    left = work.request.timings.initialconnecttimeout - waited
    if left <= 0:
        return Done(event=Event.NO_LOGIN)
    return Again(after=min(_next_look(work, waited), left, seconds_left(work)), because=_waits_for(address))


def _connected(work: Work, address: Address) -> Done:
    work.record.say(Step.CONNECTED)
    seen = Noted(granted_address=address, connected_at=work.now, last_seen_at=work.now)
    return Done(event=Event.CONNECTED, noted=seen)


def _waits_for(address: Address) -> str:
    return f"waiting for the user to connect from {address}"


def _next_look(work: Work, waited: float) -> float:
    """Often at first, when users come; up to `connect_poll` seconds later."""
    return min(max(1.0, waited / 4), work.request.timings.connect_poll)


def _seconds_since(work: Work, moment: datetime) -> float:
    return (work.now - moment).total_seconds()
