"""What people watch: steps with their seconds, and a bar for the boot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vcl_provision.faces.progress import ALMOST, Line, Passed, lines
from vcl_provision.model.steps import Step

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


LOG = [
    Passed(step=Step.STATUSCHECK, at=at(0)),
    Passed(step=Step.TRANSFERVM, at=at(0.5), info="8 GiB"),
    Passed(step=Step.BOOTING, at=at(1)),
]


def shown(now: float, boot_seconds: float | None = None, *, resting: bool = False, since: float = -1) -> list[Line]:
    return lines(LOG, now=at(now), since=at(since), resting=resting, boot_seconds=boot_seconds)


def test_a_step_ends_when_the_next_begins() -> None:
    first, second, _ = shown(5)
    assert (first.said, first.seconds, first.running) == ("asking the machine what it holds", 0.5, False)
    assert (second.said, second.seconds, second.running) == ("making the machine's disk: 8 GiB", 0.5, False)


def test_the_last_step_runs_and_its_seconds_grow() -> None:
    assert [shown(now)[-1].seconds for now in (2, 3)] == [1, 2]
    assert shown(2)[-1].running


def test_nothing_runs_once_the_reservation_rests() -> None:
    assert not shown(99, resting=True, since=3)[-1].running


def test_a_state_that_came_after_the_last_step_ended_it() -> None:
    last = shown(99, since=3)[-1]
    assert (last.running, last.seconds) == (False, 2)


def test_waiting_for_the_user_takes_no_time_of_ours() -> None:
    waits = [*LOG, Passed(step=Step.RESERVED, at=at(5))]
    last = lines(waits, now=at(99), since=at(4), resting=True, boot_seconds=None)[-1]
    assert (last.running, last.rests, last.seconds) == (False, True, 0)
    over = lines(waits, now=at(99), since=at(9), resting=True, boot_seconds=None)[-1]
    assert (over.running, over.rests, over.seconds) == (False, False, 0)


def test_the_boot_has_a_share_of_what_it_took_before() -> None:
    assert shown(5, boot_seconds=16)[-1].share == pytest.approx(0.25)


def test_a_boot_that_takes_longer_is_almost_over_and_never_over() -> None:
    assert shown(500, boot_seconds=16)[-1].share == ALMOST


def test_without_experience_there_is_no_share() -> None:
    assert shown(5)[-1].share is None


def test_a_clock_that_stands_behind_the_log_shows_zero() -> None:
    assert shown(-10)[-1].seconds == 0


def test_a_step_that_we_do_not_know_is_called_by_its_name() -> None:
    (line,) = lines([Passed(step="newstep", at=at(0))], now=at(1), since=at(0), resting=False, boot_seconds=None)
    assert line.said == "newstep"


def test_before_the_first_step_there_is_nothing() -> None:
    assert lines([], now=at(0), since=at(0), resting=False, boot_seconds=None) == []
