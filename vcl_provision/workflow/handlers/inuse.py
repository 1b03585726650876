"""inuse: the user is in; watches until they leave or the time is up, and tells them before it is."""

from __future__ import annotations

from vcl_provision.model.states import Event
from vcl_provision.workflow.handlers.access import is_in, let_in, may_be_away, seconds_left
from vcl_provision.workflow.outcome import Again, Done, Noted, Outcome
from vcl_provision.workflow.work import Work


def handle(work: Work) -> Outcome:
    left = seconds_left(work)
    if left <= 0:
        return Done(event=Event.ENDED)
    address = work.request.remote_address
    if address is not None and address != work.reservation.granted_address:
        let_in(work, address)
    notices = _notify(work, left)
    present = may_be_away(work) or _seen_just_now(work) or (address is not None and is_in(work, address))
    last_seen = work.now if present else (work.reservation.last_seen_at or work.reservation.state_since)
    away = (work.now - last_seen).total_seconds()
    patience = work.request.timings.reconnecttimeout - away
    if patience <= 0:
        return Done(event=Event.LEFT)
    return Again(
        after=_next_look(work, left, notices, patience),
        because="in use" if present else f"the user has been away for {away:.0f} s",
        noted=Noted(granted_address=address, last_seen_at=last_seen, notices_sent=notices),
    )


def _seen_just_now(work: Work) -> bool:
    """As the last look of `reserved` did, which led here: the guest need not be asked again so soon."""
    seen = work.reservation.last_seen_at
    return seen is not None and (work.now - seen).total_seconds() < work.request.timings.connect_poll


def _notify(work: Work, left: float) -> int:
    """Tells the user once at each notice time that the end comes; returns how many they have had.

    Counted from the time that is left, so an extension makes both due again.
    """
    due = sum(left <= notice for notice in _notices(work))
    if due > work.reservation.notices_sent:
        minutes = max(1, round(left / 60))
        work.guest.notify_user(work.computer, work.user, f"Your reservation ends in {minutes} min: save your work.")
    return due


def _notices(work: Work) -> tuple[float, float]:
    return work.request.timings.end_notice_first, work.request.timings.end_notice_second


def _next_look(work: Work, left: float, notices: int, patience: float) -> float:
    """Seconds to whatever comes first: check, notice, the end, the end of patience with a user who is away."""
    coming = [left - notice for notice in _notices(work)[notices:] if left > notice]
    return min([work.request.timings.inuse_check, left, patience, *coming])
