"""Letting the user in, and knowing whether they are: what `reserved` and `inuse` share."""

from __future__ import annotations

from vcl_provision.model.lab import Address
from vcl_provision.model.states import RequestState
from vcl_provision.model.steps import Step
from vcl_provision.workflow.work import Work


def let_in(work: Work, address: Address) -> None:
    """Opens the machine for the user's address. From the moment before, the machine counts as tainted."""
    work.record.tainted()
    if work.guest.add_user_in is RequestState.RESERVED and work.reservation.granted_address is None:
        work.record.say(Step.ADDINGUSER)
        work.guest.admit(work.computer, work.revision, work.user, address)
    else:
        work.guest.grant_access(work.computer, work.revision, work.user, address)
    work.record.say(Step.CONNECTABLE)


def is_in(work: Work, address: Address) -> bool:
    return work.guest.is_connected(work.computer, work.revision, work.user, address)


def counts_as_connected(work: Work) -> bool:
    """Images that say so, and requests of a day and more, are not given up for want of a connection (as in VCL)."""
    length = (work.request.end_time - work.request.start_time).total_seconds()
    return not work.revision.check_user or length >= work.request.timings.ignore_connections_gte


def may_be_away(work: Work) -> bool:
    """Nobody misses a user who need not connect, nor one of a cluster: they may be in any machine of it (as in VCL)."""
    return counts_as_connected(work) or work.request.reservations > 1


def seconds_left(work: Work) -> float:
    """Until the reserved time is over."""
    return (work.request.end_time - work.now).total_seconds()
