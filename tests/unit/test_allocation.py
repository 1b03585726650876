"""Who gets which computer."""

from __future__ import annotations

from vcl_provision.workflow.allocation import Assigned, Candidate, Decision, RefusedOne, Span, Waits, Wanted, allocate


def hours(begin: float, end: float) -> Span:
    return 3600.0 * begin, 3600.0 * end


def computer(
    number: int,
    *,
    runs: set[int] | None = None,
    holds: int | None = None,
    free: bool = True,
    busy: tuple[Span, ...] = (),
    full: str = "",
    no_new_master: bool = False,
    host: int | None = None,
) -> Candidate:
    return Candidate(
        computer_id=number,
        runs=frozenset(runs or {1}),
        holds=holds,
        free_now=free,
        busy=busy,
        no_room=full,
        no_new_master=no_new_master,
        host_id=host,
    )


def want(
    number: int,
    span: Span,
    *,
    revision: int = 1,
    request: int | None = None,
    waits: bool = True,
    soon: bool = True,
    refused_by: dict[int, str] | None = None,
) -> Wanted:
    """Each of a request of its own, if not told otherwise."""
    return Wanted(
        reservation_id=number,
        request_id=request or number,
        revision_id=revision,
        span=span,
        waits=waits,
        soon=soon,
        refused_by=refused_by or {},
    )


def given(decisions: list[Decision]) -> dict[int, int]:
    return {d.reservation_id: d.computer_id for d in decisions if isinstance(d, Assigned)}


def test_a_computer_that_holds_the_image_is_preferred() -> None:
    assert given(allocate([want(1, hours(0, 1))], [computer(1), computer(2, holds=1), computer(3, holds=2)])) == {1: 2}


def test_an_empty_computer_is_taken_before_one_that_holds_another_image() -> None:
    assert given(allocate([want(1, hours(0, 1))], [computer(1, holds=2), computer(2)])) == {1: 2}


def test_one_that_must_be_taken_back_first_comes_last() -> None:
    assert given(allocate([want(1, hours(0, 1))], [computer(1, free=False, holds=1), computer(2, holds=2)])) == {1: 2}


def test_nobody_gets_a_computer_that_cannot_run_the_image() -> None:
    decisions = allocate([want(1, hours(0, 1), revision=7)], [computer(1), computer(2)])
    assert isinstance(decisions[0], Waits)
    assert "no computer in service" in decisions[0].because


def test_two_reservations_never_share_a_moment_of_one_computer() -> None:
    decisions = allocate([want(1, hours(0, 2)), want(2, hours(1, 3)), want(3, hours(2, 4))], [computer(1)])
    assert given(decisions) == {1: 1}
    later = allocate([want(3, hours(2, 4))], [computer(1, busy=(hours(0, 2),))])
    assert given(later) == {3: 1}


def test_a_later_one_does_not_overtake_who_waits_for_the_same_computers() -> None:
    busy = computer(1, busy=(hours(0, 1),))
    decisions = allocate([want(1, hours(0, 3)), want(2, hours(1, 2))], [busy])
    assert given(decisions) == {}


def test_a_later_one_for_another_image_is_served_past_who_waits() -> None:
    decisions = allocate(
        [want(1, hours(0, 3)), want(2, hours(0, 1), revision=2)],
        [computer(1, busy=(hours(0, 1),)), computer(2, runs={2})],
    )
    assert given(decisions) == {2: 2}


def test_who_asked_not_to_wait_is_refused_and_holds_nothing_back() -> None:
    decisions = allocate([want(1, hours(0, 3), waits=False), want(2, hours(1, 2))], [computer(1, busy=(hours(0, 1),))])
    assert isinstance(decisions[0], RefusedOne)
    assert "taken" in decisions[0].said
    assert given(decisions) == {2: 1}


def test_a_cluster_gets_all_of_its_machines_or_none() -> None:
    machines = [want(1, hours(0, 2), request=7), want(2, hours(0, 2), request=7)]
    assert given(allocate(machines, [computer(1), computer(2)])) == {1: 1, 2: 2}
    decisions = allocate(machines, [computer(1), computer(2, busy=(hours(0, 1),))])
    assert given(decisions) == {}
    assert all(isinstance(decision, Waits) and "2 machines" in decision.because for decision in decisions)


def test_nobody_later_takes_what_a_waiting_cluster_needs() -> None:
    machines = [want(1, hours(0, 2), request=7), want(2, hours(0, 2), request=7)]
    later = want(3, hours(0, 1))
    assert given(allocate([*machines, later], [computer(1), computer(2, busy=(hours(0, 1),))])) == {}


def test_who_asks_for_more_machines_than_there_are_keeps_nobody_else_waiting() -> None:
    three = [want(number, hours(0, 2), request=1) for number in (1, 2, 3)]
    decisions = allocate([*three, want(4, hours(1, 2))], [computer(1), computer(2)])
    assert given(decisions) == {4: 1}
    assert [d.because for d in decisions if isinstance(d, Waits)] == [
        "3 machines are asked for, and 2 in service can run the image"
    ] * 3


FULL = "/vm of VM host host-1 is full"


def test_nothing_is_loaded_where_there_is_no_room_and_who_waits_hears_where() -> None:
    decisions = allocate([want(1, hours(0, 1))], [computer(1, full=FULL), computer(2, full=FULL)])
    assert isinstance(decisions[0], Waits)
    assert decisions[0].because == f"no computer that can run the image has room for it: {FULL} (vcl hosts)"


def test_a_computer_without_room_is_given_to_who_wants_what_it_holds() -> None:
    assert given(allocate([want(1, hours(0, 1))], [computer(1, holds=1, full=FULL), computer(2)])) == {1: 1}


def test_who_waits_for_others_hears_of_those_without_room_too() -> None:
    decisions = allocate([want(1, hours(0, 2))], [computer(1, busy=(hours(1, 2),)), computer(2, full=FULL)])
    assert isinstance(decisions[0], Waits)
    assert decisions[0].because.startswith("the one computer that can run the image is taken; 1 more have no room")


def test_a_full_disk_today_refuses_nobody_who_comes_later() -> None:
    assert given(allocate([want(1, hours(24, 25), soon=False)], [computer(1, full=FULL)])) == {1: 1}
    decisions = allocate([want(1, hours(24, 25), soon=False)], [computer(1, full=FULL), computer(2, holds=9)])
    assert given(decisions) == {1: 2}


def test_a_host_that_takes_no_new_master_comes_after_one_that_does() -> None:
    decisions = allocate([want(1, hours(0, 1))], [computer(1, no_new_master=True), computer(2, holds=9)])
    assert given(decisions) == {1: 2}
    assert given(allocate([want(1, hours(0, 1))], [computer(1, no_new_master=True)])) == {1: 1}


REFUSED = {7: "host-7"}


def test_a_host_that_had_no_room_for_it_is_not_tried_again_even_for_what_holds_the_image() -> None:
    computers = [computer(1, holds=1, host=7), computer(2, host=7), computer(3, holds=9, host=8), computer(4)]
    assert given(allocate([want(1, hours(0, 1), refused_by=REFUSED)], computers[:3])) == {1: 3}
    assert given(allocate([want(1, hours(0, 1), refused_by=REFUSED)], computers)) == {1: 4}
    assert given(allocate([want(1, hours(0, 1))], computers)) == {1: 1}


def test_who_was_refused_keeps_nothing_there_from_others_and_hears_how_it_is_elsewhere() -> None:
    here, there = computer(1, host=7), computer(2, host=8, busy=(hours(0, 1),))
    decisions = allocate([want(1, hours(0, 2), refused_by=REFUSED), want(2, hours(0, 2))], [here, there])
    assert given(decisions) == {2: 1}
    assert isinstance(decisions[0], Waits)
    assert decisions[0].because == (
        "host-7 had no room for it; elsewhere the one computer that can run the image is taken"
    )


def test_its_reason_does_not_count_the_full_computers_that_it_left() -> None:
    decisions = allocate([want(1, hours(0, 1), refused_by=REFUSED)], [computer(1, host=7, full=FULL)])
    assert isinstance(decisions[0], Waits)
    assert decisions[0].because == "host-7 had no room for it; elsewhere no computer in service can run the image"
