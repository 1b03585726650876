"""What becomes of a handler that raised."""

from __future__ import annotations

import pytest

from vcl_provision.model.faults import CommandFailed, HostUnreachable, Ran, Refused, TimedOut, Transient
from vcl_provision.model.states import FaultKind
from vcl_provision.workflow.outcome import Again, GaveUp
from vcl_provision.workflow.verdict import LONGEST, backoff, verdict

FAILED = CommandFailed("mke2fs failed", ran=Ran(argv=["mke2fs"], status=1))


def test_a_transient_failure_is_asked_again_with_a_growing_delay() -> None:
    delays = list[float]()
    for attempts in range(4):
        outcome = verdict(Transient("locked"), attempts=attempts, gives_up=True)
        assert isinstance(outcome, Again)
        assert outcome.attempt
        delays.append(outcome.after)
    assert delays == sorted(delays)
    assert len(set(delays)) == 4
    assert backoff(1000) == LONGEST


def test_what_is_refused_fails_at_once_and_not_the_computer_is_blamed() -> None:
    outcome = verdict(Refused("no such image", "add it"), attempts=0, gives_up=True)
    assert isinstance(outcome, GaveUp)
    assert (outcome.fault.said, outcome.fault.hint) == ("no such image", "add it")
    assert not outcome.blame_computer


@pytest.mark.parametrize("error", [FAILED, TimedOut("waited 600 s for ssh")])
def test_a_command_that_failed_is_tried_once_more(error: Exception) -> None:
    assert isinstance(verdict(error, attempts=0, gives_up=True), Again)
    outcome = verdict(error, attempts=1, gives_up=True)
    assert isinstance(outcome, GaveUp)
    assert outcome.blame_computer


def test_a_host_that_is_away_costs_no_try() -> None:
    outcome = verdict(HostUnreachable("vmhost1 does not answer"), attempts=500, gives_up=True)
    assert isinstance(outcome, Again)
    assert not outcome.attempt


def test_where_a_user_is_in_nothing_is_given_up() -> None:
    for error in (Refused("no"), FAILED, ValueError("odd")):
        assert isinstance(verdict(error, attempts=1000, gives_up=False), Again)


def test_an_exception_that_nobody_meant_says_that_the_module_is_broken() -> None:
    outcome = verdict(KeyError("mac"), attempts=0, gives_up=True)
    assert isinstance(outcome, GaveUp)
    assert outcome.fault.kind is FaultKind.BROKEN_MODULE
    assert "KeyError" in outcome.fault.said
