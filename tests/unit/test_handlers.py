"""What each state's handler decides, over values and modules that answer as told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from a_work import COMPUTER, HERE, KEY, LOADED, NOW, REVISION, Asked, FakeModule, a_work, status

from vcl_provision.model.faults import NoRoom, Transient
from vcl_provision.model.states import Event, NodeStatus, RequestState
from vcl_provision.workflow.handlers import closing, failed, inuse, new, reclaim, reload, reserved
from vcl_provision.workflow.outcome import Again, Done, Elsewhere, Outcome
from vcl_provision.workflow.work import Work

S = RequestState


def test_new_loads_an_empty_computer_and_prepares_it() -> None:
    asked = Asked(answers=status(NodeStatus.RELOAD))
    assert new.handle(a_work(asked, S.NEW)) == Done(event=Event.LOADED)
    order = [
        "occupy",
        "loading",
        "does_image_exist",
        "load",
        "prepare",
        "prepared",
        "reserve",
    ]
    assert asked.calls == order


def test_new_fetches_an_image_that_the_host_lacks() -> None:
    asked = Asked(answers={"does_image_exist": False})
    new.handle(a_work(asked, S.NEW))
    assert asked.calls.index("retrieve_image") < asked.calls.index("load")


def test_new_does_nothing_to_a_computer_that_is_ready() -> None:
    asked = Asked(answers=status(NodeStatus.READY))
    assert new.handle(a_work(asked, S.NEW, computer=LOADED)) == Done(event=Event.LOADED)
    assert asked.calls == ["occupy", "node_status", "reserve"]


def test_new_goes_on_after_a_crash_between_load_and_post_load() -> None:
    asked = Asked(answers=status(NodeStatus.READY))
    new.handle(a_work(asked, S.NEW, computer=replace(LOADED, prepared=False)))
    assert "load" not in asked.calls
    assert asked.calls.index("prepare") < asked.calls.index("prepared")


def test_after_a_load_the_guest_is_spoken_to_by_its_new_host_key() -> None:
    asked = Asked(answers=status(NodeStatus.RELOAD))
    new.handle(a_work(asked, S.NEW, computer=replace(LOADED, tainted=True, host_key="ssh-ed25519 old")))
    spoken_to = [args[0].host_key for name, args in asked.arguments if name in {"prepare", "reserve"}]
    assert spoken_to == [KEY.host_key] * 2


def test_a_machine_in_which_somebody_was_is_loaded_anew_whatever_it_says() -> None:
    asked = Asked(answers=status(NodeStatus.READY))
    new.handle(a_work(asked, S.NEW, computer=replace(LOADED, tainted=True)))
    assert "load" in asked.calls


@pytest.mark.parametrize(("handle", "state"), [(new.handle, S.NEW), (reload.handle, S.RELOAD)])
@pytest.mark.parametrize("refused", ["retrieve_image", "load"])
def test_a_load_without_room_undoes_what_was_done_and_goes_elsewhere(
    handle: Callable[[Work], Outcome], state: RequestState, refused: str
) -> None:
    full = NoRoom("/vm is full", "make room")
    asked = Asked(answers={refused: full})
    assert handle(a_work(asked, state)) == Elsewhere(fault=full.fault)
    assert asked.calls[-2:] == [refused, "undo computer"]


def test_what_cannot_be_undone_is_not_left_behind() -> None:
    asked = Asked(answers={"load": NoRoom("/vm is full"), "undo computer": Transient("away")})
    with pytest.raises(Transient):
        new.handle(a_work(asked, S.NEW))


def test_new_waits_while_its_computer_is_taken_back_from_another() -> None:
    asked = Asked(answers={"occupy": False})
    outcome = new.handle(a_work(asked, S.NEW))
    assert isinstance(outcome, Again)
    assert "vm1" in outcome.because
    assert asked.calls == ["occupy"]


@pytest.mark.parametrize(
    ("handle", "state"),
    [(new.handle, S.NEW), (reload.handle, S.RELOAD), (reserved.handle, S.RESERVED), (inuse.handle, S.INUSE)],
)
def test_nothing_begins_once_the_time_is_over(handle: object, state: RequestState) -> None:
    asked = Asked()
    assert callable(handle)
    assert handle(a_work(asked, state, request={"end_time": NOW})) == Done(event=Event.ENDED)
    assert asked.calls == []


def test_reserved_waits_for_the_acknowledgement_and_no_longer_than_its_timing() -> None:
    outcome = reserved.handle(a_work(Asked(), S.RESERVED))
    assert isinstance(outcome, Again)
    assert outcome.after == 900 - 60
    late = a_work(Asked(), S.RESERVED, reservation={"state_since": NOW - timedelta(seconds=901)})
    assert reserved.handle(late) == Done(event=Event.NO_ACKNOWLEDGEMENT)


def test_reserved_lets_the_user_in_from_their_address_and_taints_the_machine_before() -> None:
    asked = Asked(answers={"is_connected": False})
    outcome = reserved.handle(a_work(asked, S.RESERVED, request={"remote_address": HERE, "acknowledged_at": NOW}))
    assert isinstance(outcome, Again)
    assert outcome.noted.granted_address == HERE
    assert asked.calls == ["tainted", "admit"]


def test_reserved_grants_once_and_again_for_another_address() -> None:
    granted = {"granted_address": HERE}
    asked = Asked(answers={"is_connected": False})
    request = {"remote_address": HERE, "acknowledged_at": NOW}
    reserved.handle(a_work(asked, S.RESERVED, request=request, reservation=granted))
    assert asked.calls == ["is_connected"]


def test_reserved_goes_on_when_the_user_is_in_and_gives_up_when_they_do_not_come() -> None:
    granted = {"granted_address": HERE}
    request = {"remote_address": HERE, "acknowledged_at": NOW - timedelta(seconds=10)}
    connected = reserved.handle(
        a_work(Asked(answers={"is_connected": True}), S.RESERVED, request=request, reservation=granted)
    )
    assert isinstance(connected, Done)
    assert connected.event is Event.CONNECTED
    long_ago = NOW - timedelta(seconds=1000)
    late = a_work(
        Asked(answers={"is_connected": False}),
        S.RESERVED,
        request={"remote_address": HERE, "acknowledged_at": long_ago},
        reservation=granted | {"state_since": long_ago},
    )
    outcome = reserved.handle(late)
    assert isinstance(outcome, Done)
    assert outcome.event is Event.NO_LOGIN


@pytest.mark.parametrize("first_look", [0.0, 3.0])
def test_nobody_is_looked_for_before_they_can_be_in(first_look: float) -> None:
    asked = Asked(answers={"is_connected": True})
    work = a_work(asked, S.RESERVED, request={"remote_address": HERE, "acknowledged_at": NOW})
    work = replace(work, guest=cast("Any", FakeModule(asked, first_look=first_look)))
    outcome = reserved.handle(work)
    if first_look:
        assert isinstance(outcome, Again)
        assert outcome.after == first_look
    else:
        assert isinstance(outcome, Done)
    assert ("is_connected" in asked.calls) == (first_look == 0)


def test_inuse_does_not_ask_for_a_user_who_was_seen_just_now() -> None:
    seen, asked = {"granted_address": HERE, "last_seen_at": NOW - timedelta(seconds=1)}, Asked()
    outcome = inuse.handle(a_work(asked, S.INUSE, request={"remote_address": HERE}, reservation=seen))
    assert asked.calls == []
    assert isinstance(outcome, Again)
    assert outcome.because == "in use"


def test_an_image_that_says_so_needs_no_connection() -> None:
    request = {"remote_address": HERE, "acknowledged_at": NOW}
    work = a_work(Asked(), S.RESERVED, request=request, revision=replace(REVISION, check_user=False))
    outcome = reserved.handle(work)
    assert isinstance(outcome, Done)
    assert outcome.event is Event.CONNECTED


IN = {"remote_address": HERE}
SINCE = {"granted_address": HERE, "last_seen_at": NOW}


def test_inuse_looks_again_at_the_check_interval_and_remembers_that_the_user_was_seen() -> None:
    outcome = inuse.handle(a_work(Asked(answers={"is_connected": True}), S.INUSE, request=IN, reservation=SINCE))
    assert isinstance(outcome, Again)
    assert outcome.after == 300
    assert outcome.noted.last_seen_at == NOW


def test_inuse_ends_when_the_user_was_away_for_too_long() -> None:
    away = {"granted_address": HERE, "last_seen_at": NOW - timedelta(seconds=899)}
    outcome = inuse.handle(a_work(Asked(answers={"is_connected": False}), S.INUSE, request=IN, reservation=away))
    assert isinstance(outcome, Again)
    assert outcome.after == 1
    gone = {"granted_address": HERE, "last_seen_at": NOW - timedelta(seconds=900)}
    left = inuse.handle(a_work(Asked(answers={"is_connected": False}), S.INUSE, request=IN, reservation=gone))
    assert left == Done(event=Event.LEFT)


@pytest.mark.parametrize(
    ("minutes", "sent", "notices", "says"), [(11, 0, 0, 0), (10, 0, 1, 1), (9, 1, 1, 0), (5, 1, 2, 1)]
)
def test_the_user_is_told_once_at_ten_and_at_five_minutes(minutes: int, sent: int, notices: int, says: int) -> None:
    asked = Asked(answers={"is_connected": True})
    request = IN | {"end_time": NOW + timedelta(minutes=minutes)}
    outcome = inuse.handle(a_work(asked, S.INUSE, request=request, reservation=SINCE | {"notices_sent": sent}))
    assert isinstance(outcome, Again)
    assert outcome.noted.notices_sent == notices
    assert asked.calls.count("notify_user") == says


def test_inuse_looks_again_exactly_when_the_next_notice_or_the_end_is_due() -> None:
    request = IN | {"end_time": NOW + timedelta(seconds=620)}
    outcome = inuse.handle(a_work(Asked(answers={"is_connected": True}), S.INUSE, request=request, reservation=SINCE))
    assert isinstance(outcome, Again)
    assert outcome.after == 20


def test_an_extension_makes_the_notices_due_again() -> None:
    request = IN | {"end_time": NOW + timedelta(hours=2)}
    work = a_work(
        Asked(answers={"is_connected": True}), S.INUSE, request=request, reservation=SINCE | {"notices_sent": 2}
    )
    outcome = inuse.handle(work)
    assert isinstance(outcome, Again)
    assert outcome.noted.notices_sent == 0


def test_inuse_lets_the_user_in_from_a_new_address() -> None:
    asked = Asked(answers={"is_connected": True})
    elsewhere = {"last_seen_at": NOW, "granted_address": HERE + 1}
    inuse.handle(a_work(asked, S.INUSE, request=IN, reservation=elsewhere))
    assert "grant_access" in asked.calls


def test_closing_locks_the_user_out_and_does_not_insist_on_a_broken_guest() -> None:
    asked = Asked(answers={"revoke_access": Transient("connection refused")})
    work = a_work(asked, S.TIMEOUT, reservation={"granted_address": HERE})
    assert closing.handle(work) == Done(event=Event.CLOSED)
    assert asked.calls == ["revoke_access"]


def test_closing_asks_nothing_of_a_guest_that_nobody_was_let_into() -> None:
    asked = Asked()
    assert closing.handle(a_work(asked, S.DELETED)) == Done(event=Event.CLOSED)
    assert asked.calls == []


def test_reclaim_removes_a_machine_in_which_somebody_was() -> None:
    asked = Asked()
    work = a_work(asked, S.RECLAIM, computer=replace(LOADED, tainted=True))
    assert reclaim.handle(work) == Done(event=Event.RECLAIMED)
    assert asked.calls == ["undo computer"]


def test_reclaim_keeps_a_machine_that_nobody_came_to_and_cleans_it() -> None:
    asked = Asked()
    reclaim.handle(a_work(asked, S.RECLAIM, computer=LOADED))
    assert asked.calls == ["sanitize", "undo reservation"]


def test_reclaim_removes_what_a_cancelled_load_left() -> None:
    asked = Asked()
    reclaim.handle(a_work(asked, S.RECLAIM, computer=replace(COMPUTER, host_key="k")))
    assert asked.calls == ["undo computer"]


@pytest.mark.parametrize("handle", [reclaim.handle, failed.handle])
def test_a_reservation_that_never_had_its_computer_touches_nothing(handle: object) -> None:
    asked = Asked()
    assert callable(handle)
    work = a_work(asked, S.RECLAIM, computer=replace(LOADED, tainted=True), reservation={"occupies": False})
    assert handle(work) == Done(event=Event.RECLAIMED)
    assert asked.calls == []


def test_failed_undoes_all_that_was_done() -> None:
    asked = Asked()
    assert failed.handle(a_work(asked, S.FAILED, computer=COMPUTER)) == Done(event=Event.RECLAIMED)
    assert asked.calls == ["undo computer"]


def test_reload_makes_the_computer_ready_for_whoever_comes() -> None:
    asked = Asked(answers=status(NodeStatus.RELOAD))
    assert reload.handle(a_work(asked, S.RELOAD)) == Done(event=Event.LOADED)
    assert "add_user" not in asked.calls
