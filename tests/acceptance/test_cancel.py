"""Whatever a load is doing, giving the reservation back ends it at once, and nothing stays."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fix_daemon import DaemonLab
from psycopg import sql

from modules.provisioning.sim import Kind, fired, heal, script

AT_ONCE = 5.0
"""Seconds, on a machine that is busy; it is a second on one that is not."""
BEFORE_IN_USE = (
    "node_status",
    "does_image_exist",
    "retrieve_image",
    "load",
    "boot",
    "guest.connect",
    "guest.true",
    "guest.post_load",
    "guest.add_user",
    "guest.open",
    "guest.is_connected",
)


@pytest.fixture
def lab(shared: DaemonLab) -> Iterator[DaemonLab]:
    """One daemon for all of them; ticks are rare, so that nothing is owed to them."""
    if not shared.nodes:
        shared.node(work={"tick": 600, "lease": 60}).start()
    yield shared
    shared.sweep()


def hang_at(lab: DaemonLab, call: str) -> int:
    """A reservation that hangs in this call."""
    if call == "node_status":
        leave_a_machine(lab)
    with lab.world.change() as change:
        change.do("DELETE FROM image")
    fault = script(lab.world, call, Kind.HANG, times=0)
    request = lab.reserve(computer_id=lab.lab.computers[0])
    lab.until(lambda: fired(lab.world, fault), f"{call} to hang")
    return request


def leave_a_machine(lab: DaemonLab) -> None:
    request = lab.reserve(computer_id=lab.lab.computers[0], remote_address=None)
    lab.until_state(request, "reserved")
    lab.end(request)
    lab.until_state(request, "complete")


@pytest.mark.parametrize("call", BEFORE_IN_USE)
def test_a_delete_ends_what_hangs_at_this_call(lab: DaemonLab, call: str) -> None:
    request = hang_at(lab, call)
    lab.end(request)
    lab.until_state(request, "reclaim", "complete", seconds=AT_ONCE)
    heal(lab.world)
    lab.until_state(request, "complete", seconds=AT_ONCE)
    assert lab.ending(request) == "deleted"
    lab.check_all_is_known()


def test_the_end_of_time_ends_a_load_that_hangs(lab: DaemonLab) -> None:
    request = hang_at(lab, "boot")
    lab.conn.execute("UPDATE request SET end_time = now() + interval '0.7 s' WHERE id = %s", [request])
    lab.until_state(request, "complete", seconds=AT_ONCE)
    assert lab.ending(request) == "EOR"
    lab.check_nothing_is_left()


def test_an_extension_reaches_a_load_that_is_on_its_way(lab: DaemonLab) -> None:
    script(lab.world, "boot", Kind.SLOW, seconds=2)
    soon = sql.SQL("now() + interval '1 s'")
    request = lab.reserve(computer_id=lab.lab.computers[0], end_time=soon)
    lab.until_step(request, "bootstate")
    lab.conn.execute("UPDATE request SET end_time = now() + interval '1 hour' WHERE id = %s", [request])
    lab.until_state(request, "inuse")
    assert len([fact for fact in lab.world.facts() if fact.what == "disk_made"]) == 1
    lab.end(request)
    lab.until_state(request, "complete")
    lab.check_nothing_is_left()


def test_one_that_hangs_in_use_is_taken_back_as_well(lab: DaemonLab) -> None:
    request = lab.reserve()
    lab.until_state(request, "inuse")
    because = "SELECT waiting_because FROM reservation WHERE request_id = %s"
    lab.until(lambda: lab.one(because, request) == "in use", "its first turn to be over")
    lab.conn.execute("UPDATE reservation SET last_seen_at = last_seen_at - interval '1 minute'")
    fault = script(lab.world, "guest.is_connected", Kind.HANG, times=0)
    lab.conn.execute("UPDATE request SET end_time = end_time + interval '1 hour' WHERE id = %s", [request])
    lab.until(lambda: fired(lab.world, fault), "the look whether its user is in to hang")
    lab.end(request)
    lab.until_state(request, "complete", seconds=AT_ONCE)
    assert lab.ending(request) == "released"
    lab.check_nothing_is_left()


def test_a_guest_that_answers_nothing_any_more_is_removed_all_the_same(lab: DaemonLab) -> None:
    request = lab.reserve()
    lab.until_state(request, "inuse")
    script(lab.world, "guest.close", Kind.FAIL, error="transient", times=0)
    lab.end(request)
    lab.until_state(request, "complete", seconds=AT_ONCE)
    lab.check_nothing_is_left()


def test_one_that_waits_for_its_start_is_given_back_without_a_trace(lab: DaemonLab) -> None:
    request = lab.reserve(start_time=sql.SQL("now() + interval '1 day'"))
    lab.until(lambda: lab.one("SELECT computer_id FROM reservation WHERE request_id = %s", request), "a computer")
    began = time.monotonic()
    lab.end(request)
    assert lab.state(request) == "complete"
    assert time.monotonic() - began < AT_ONCE
    assert lab.ending(request) == "deleted"
    lab.check_nothing_is_left()
