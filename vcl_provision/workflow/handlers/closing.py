"""timeout, deleted: the user is locked out at once, before the machine is taken back."""

from __future__ import annotations

from vcl_provision.model.faults import ProvisionError
from vcl_provision.model.states import Event
from vcl_provision.workflow.outcome import Done, Outcome
from vcl_provision.workflow.work import Work


def handle(work: Work) -> Outcome:
    if work.reservation.granted_address is not None:
        _lock_out(work)
    return Done(event=Event.CLOSED)


def _lock_out(work: Work) -> None:
    """A user who was root may have broken the guest's own gate; what matters is that the machine is removed next."""
    try:
        work.guest.revoke_access(work.computer)
    except ProvisionError as refused:
        work.record.note(f"{work.computer.name} did not lock its user out: {refused.said}")
