"""Parts of the daemon that need no database: what wakes, what stops, what is told, what is undone in which order."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from vcl_provision.daemon.alarm import Alarm
from vcl_provision.daemon.audit import JournalAudit
from vcl_provision.daemon.leases import tell
from vcl_provision.daemon.reaper import ClockWatch
from vcl_provision.daemon.runs import Run, Runs
from vcl_provision.daemon.scribe import Scribe
from vcl_provision.daemon.steady import SteadyDatabase
from vcl_provision.daemon.stop import WorkStop
from vcl_provision.daemon.undo import play_backwards
from vcl_provision.model.faults import Cancelled, CommandFailed, Ran
from vcl_provision.model.reservation import Claim, Effect, Renewal
from vcl_provision.model.states import RequestState
from vcl_provision.store.database import Database, DatabaseAway
from vcl_provision.store.journal import Line

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("argv", "said"),
    [(["admit alice 192.0.2.7 tcp:22"], "admit alice 192.0.2.7 tcp:22"), (["rm", "a b"], "rm 'a b'")],
)
def test_the_journal_has_commands_as_one_would_type_them_and_scripts_by_their_title(argv: list[str], said: str) -> None:
    lines: list[Line] = []
    scribe = cast(Scribe, SimpleNamespace(write=lines.append))
    JournalAudit(scribe).ran("vm1", Ran(argv=argv, status=0), changes=True)
    assert [line.said for line in lines] == [said]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def a_claim(reservation: int = 1, *, host: int | None = 1) -> Claim:
    return Claim(
        reservation_id=reservation,
        request_id=reservation,
        token=uuid4(),
        state=RequestState.NEW,
        host_id=host,
        due_at=NOW,
        claimed_at=NOW,
    )


def never() -> None:
    raise AssertionError("nobody was to ask")


def a_stop(clock: Clock, make_sure: Callable[[], None] = never) -> WorkStop:
    return WorkStop(sure_until=clock.now + 60, make_sure=make_sure, clock=clock)


def a_run(reservation: int = 1, *, host: int | None = 1) -> Run:
    return Run(claim=a_claim(reservation, host=host), stop=a_stop(Clock()))


def renewed(run: Run, **changed: Any) -> Renewal:
    told: dict[str, Any] = {"state": RequestState.NEW, "remaining": 3600.0, "lease": 60.0} | changed
    return Renewal(reservation_id=run.claim.reservation_id, token=run.claim.token, **told)


# What wakes


def test_an_alarm_that_rang_before_the_wait_is_not_missed() -> None:
    alarm = Alarm()
    alarm.ring()
    alarm.wait(60)


def test_a_later_ring_does_not_put_off_an_earlier_one() -> None:
    alarm = Alarm()
    alarm.ring_in(0)
    alarm.ring_in(3600)
    alarm.wait(60)


def test_a_ring_from_another_thread_ends_the_wait() -> None:
    alarm = Alarm()
    threading.Thread(target=alarm.ring).start()
    alarm.wait(60)


# What stops


def test_a_stop_is_not_set_until_somebody_sets_it() -> None:
    stop = a_stop(Clock())
    assert not stop.is_set()
    stop.set()
    assert stop.is_set()
    stop.clear()
    assert not stop.is_set()


def test_time_sets_it() -> None:
    clock = Clock()
    stop = a_stop(clock)
    stop.end_in(10)
    assert not stop.is_set()
    clock.now += 10
    assert stop.is_set()
    assert stop.wait(60)


def test_an_end_that_moves_is_the_one_that_counts() -> None:
    clock = Clock()
    stop = a_stop(clock)
    stop.end_in(10)
    stop.move_end(30)
    clock.now += 20
    assert not stop.is_set()
    stop.move_end(0)
    assert stop.is_set()


def test_a_turn_that_time_does_not_end_is_not_ended_by_a_moved_end() -> None:
    stop = a_stop(Clock())
    stop.move_end(0)
    assert not stop.is_set()


def test_who_asks_after_the_lease_may_have_ended_waits_until_it_is_sure() -> None:
    clock, asked = Clock(), list[float]()

    def make_sure() -> None:
        asked.append(clock.now)
        if len(asked) == 3:
            stop.sure_until = clock.now + 60

    stop = a_stop(clock, make_sure)
    clock.now += 61
    assert not stop.is_set()
    assert len(asked) == 3


def test_who_asks_after_the_lease_was_lost_is_stopped() -> None:
    clock = Clock()

    def find_it_lost() -> None:
        stop.set()

    stop = a_stop(clock, find_it_lost)
    clock.now += 61
    assert stop.wait(0)


# What is in hand


def test_a_reservation_is_in_hand_once_and_only_its_own_run_takes_it_out() -> None:
    runs, zombie, present = Runs(), a_run(1), a_run(1)
    runs.add(zombie)
    runs.add(present)
    runs.remove(zombie)
    assert runs.all() == [present]
    runs.remove(present)
    assert runs.wait_empty(0)


def test_runs_are_counted_by_host() -> None:
    runs = Runs()
    for run in (a_run(1, host=1), a_run(2, host=1), a_run(3, host=2), a_run(4, host=None)):
        runs.add(run)
    assert runs.on_host() == {1: 2, 2: 1}
    assert not runs.wait_empty(0)


def test_what_is_lost_or_closing_stays_stopped_at_the_next_turn() -> None:
    for end in (Run.lose, Run.hand_back):
        run = a_run()
        end(run)
        run.begin_turn()
        assert run.stop.is_set()


def test_what_was_stopped_by_a_change_begins_its_next_turn_unstopped() -> None:
    run = a_run()
    run.stop.set()
    run.begin_turn()
    assert not run.stop.is_set()


# What leases tell


def test_a_renewal_that_is_missing_says_that_the_claim_is_lost() -> None:
    run = a_run()
    tell(run, None, 100.0)
    assert run.lost
    assert run.stop.is_set()


def test_a_renewal_in_the_same_state_stops_nothing_and_moves_what_is_sure() -> None:
    run = a_run()
    tell(run, renewed(run), 130.0)
    assert not run.stop.is_set()
    assert run.stop.sure_until == 190.0


def test_a_request_in_another_state_stops_its_work_without_losing_it() -> None:
    run = a_run()
    tell(run, renewed(run, state=RequestState.DELETED), 100.0)
    assert run.stop.is_set()
    assert not run.lost


def test_an_end_that_came_nearer_stops_a_turn_that_it_ends() -> None:
    run = a_run()
    run.stop.end_in(3600)
    tell(run, renewed(run, remaining=-1.0), 100.0)
    assert run.stop.is_set()


# Whose clock jumped


@pytest.mark.parametrize(
    ("moment", "before", "after", "jumped"),
    [
        (1005.0, 55.0, 55.0, 0.0),
        (1005.5, 55.0, 55.0, 0.0),
        (4605.0, 55.0, 55.0, 3600.0),
        (405.0, 55.0, 55.0, -600.0),
        (1005.0, 52.0, 58.0, 0.0),
        (1010.0, 50.0, 60.0, 0.0),
    ],
)
def test_a_jump_is_what_no_slow_answer_explains(moment: float, before: float, after: float, jumped: float) -> None:
    watch = ClockWatch()
    assert watch.jumped(1000.0, before=50.0, after=50.0) == 0.0
    assert watch.jumped(moment, before=before, after=after) == pytest.approx(jumped)
    assert watch.jumped(moment + 5, before=before + 5, after=after + 5) == 0.0


# A database that may be away


@dataclass
class MovingDatabase:
    """Away so many times, then there; hands out nothing, since the questions here are about nothing."""

    away: int = 0

    @contextmanager
    def session(self) -> Any:
        if self.away:
            self.away -= 1
            raise DatabaseAway("away")
        yield None


@dataclass
class Paused:
    """A stop whose pauses take no time."""

    stopped_after: float = math.inf
    pauses: list[float] = field(default_factory=list[float])

    def is_set(self) -> bool:
        return len(self.pauses) >= self.stopped_after

    def set(self) -> None:
        self.stopped_after = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0.0)
        return self.is_set()


def steady(away: int, stop: Paused) -> SteadyDatabase:
    return SteadyDatabase(database=cast("Database", MovingDatabase(away)), stop=stop)


def test_a_question_is_asked_ever_more_slowly_until_it_is_answered() -> None:
    stop = Paused()
    assert steady(8, stop).ask(lambda _: "an answer") == "an answer"
    assert stop.pauses == sorted(stop.pauses)
    assert (stop.pauses[0], stop.pauses[-1]) == (0.1, 5.0)


def test_who_is_told_to_stop_does_not_wait_for_the_database() -> None:
    with pytest.raises(Cancelled):
        steady(100, Paused(stopped_after=2)).ask(lambda _: "an answer")


# What is undone


@dataclass
class Undoing:
    """Modules of every name, which write down what they undo; `refuses` is an action that fails."""

    undone: list[str] = field(default_factory=list[str])
    refuses: str = ""

    def of(self, kind: str, name: str) -> Any:
        return self

    def undo(self, action: str, arguments: dict[str, object]) -> None:
        if action == self.refuses:
            raise CommandFailed("no", ran=Ran(argv=["no"], status=1))
        self.undone.append(action)


@dataclass
class Marks:
    """A steady database that notes in which order it was asked."""

    asked: int = 0
    stop: Paused = field(default_factory=Paused)

    def ask(self, _question: object) -> None:
        self.asked += 1


def an_effect(id_: int, action: str, *, kind: str = "provisioning", scope: str = "computer") -> Effect:
    return Effect(
        id=id_, computer_id=1, reservation_id=1, kind=kind, module="sim", scope=scope, action=action, arguments={}
    )


def play(modules: Undoing, *effects: Effect, marks: Marks | None = None) -> Marks:
    marks = marks or Marks()
    play_backwards(cast("SteadyDatabase", marks), a_claim(), effects, modules.of)
    return marks


def test_effects_are_undone_in_the_order_given_the_newest_first() -> None:
    modules = Undoing()
    play(modules, an_effect(3, "machine"), an_effect(2, "disk"))
    assert modules.undone == ["machine", "disk"]


def test_what_was_inside_a_machine_that_goes_is_not_asked_for() -> None:
    modules = Undoing()
    marks = play(modules, an_effect(3, "user", kind="os", scope="reservation"), an_effect(2, "machine"))
    assert modules.undone == ["machine"]
    assert marks.asked == 1


def test_what_was_inside_a_machine_that_stays_is_undone() -> None:
    modules = Undoing()
    play(modules, an_effect(3, "user", kind="os", scope="reservation"))
    assert modules.undone == ["user"]


def test_nothing_counts_as_undone_while_one_of_them_fails() -> None:
    modules, marks = Undoing(refuses="disk"), Marks()
    with pytest.raises(CommandFailed):
        play(modules, an_effect(3, "machine"), an_effect(2, "disk"), marks=marks)
    assert marks.asked == 1, "only that it failed is written"


def test_nothing_is_undone_on_a_lease_that_is_lost() -> None:
    modules = Undoing()
    with pytest.raises(Cancelled):
        play(modules, an_effect(3, "machine"), marks=Marks(stop=Paused(stopped_after=0)))
    assert modules.undone == []
