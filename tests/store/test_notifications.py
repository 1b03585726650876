"""LISTEN hears each change: people and front ends on vcl_request, the daemon on vcl_due and vcl_cancel."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest
from a_lab import RULES, Lab, a_lab, a_request, allocated, claim_all, claimed, occupied
from psycopg import sql

from vcl_provision.model.faults import Fault
from vcl_provision.model.states import Event, FaultKind
from vcl_provision.store import allocation, claims, journal, outcomes
from vcl_provision.store.database import Connection, Database, Listener
from vcl_provision.workflow.outcome import NOTHING, Again

CHANNELS = ("vcl_due", "vcl_cancel", "vcl_request")


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


@pytest.fixture
def listener(database: Database, lab: Lab) -> Generator[Listener]:
    """Listens from here on: what made the lab was said before."""
    made = database.listener(CHANNELS)
    yield made
    made.close()


def heard(conn: Connection, listener: Listener) -> dict[str, list[str]]:
    """The payloads of each channel, of all that was said before this was called."""
    conn.execute("SELECT pg_notify('vcl_due', 'that is all')")
    said: dict[str, list[str]] = {channel: [] for channel in CHANNELS}
    while True:
        for one in listener.heard(30):
            if one.payload == "that is all":
                return said
            said[one.channel].append(one.payload)


def stories(payloads: list[str]) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in payloads]


def test_a_new_request_is_heard_by_daemon_and_front_end(conn: Connection, lab: Lab, listener: Listener) -> None:
    made = a_request(conn, lab)
    said = heard(conn, listener)
    assert said["vcl_due"]
    assert stories(said["vcl_request"]) == [{"id": made, "state": "new", "step": None}]


def test_each_move_tells_the_state_that_the_request_came_into(conn: Connection, lab: Lab, listener: Listener) -> None:
    claim = occupied(conn, claimed(conn, lab))
    heard(conn, listener)
    for event in (Event.LOADED, Event.CONNECTED, Event.ENDED, Event.CLOSED, Event.RECLAIMED):
        kept = outcomes.done(conn, claim, event, noted=NOTHING, rules=RULES, keep=True)
        claim = kept.claim if kept else claim
    states = [story["state"] for story in stories(heard(conn, listener)["vcl_request"])]
    assert states == ["reserved", "inuse", "timeout", "reclaim", "complete"]


def test_a_daemon_that_moves_on_by_itself_wakes_nobody(conn: Connection, lab: Lab, listener: Listener) -> None:
    claim = occupied(conn, claimed(conn, lab))
    heard(conn, listener)
    outcomes.done(conn, claim, Event.LOADED, noted=NOTHING, rules=RULES, keep=True)
    said = heard(conn, listener)
    assert said["vcl_due"] == []
    assert said["vcl_cancel"] == []


@pytest.mark.parametrize(
    "change",
    [
        "remote_address = '192.0.2.7'",
        "end_time = end_time - interval '1 h'",
        "end_time = end_time + interval '1 h'",
        "state = 'deleted'",
    ],
)
def test_what_a_user_changes_wakes_the_daemon(conn: Connection, lab: Lab, listener: Listener, change: str) -> None:
    claim = occupied(conn, claimed(conn, lab))
    outcomes.again(conn, claim, Again(after=900))
    heard(conn, listener)
    conn.execute(f"UPDATE request SET {change}".encode())
    said = heard(conn, listener)
    assert said["vcl_due"]
    assert said["vcl_cancel"] == []


@pytest.mark.parametrize("change", ["end_time = end_time - interval '1 h'", "state = 'deleted'"])
def test_who_works_on_it_is_told_to_look_again(conn: Connection, lab: Lab, listener: Listener, change: str) -> None:
    occupied(conn, claimed(conn, lab))
    heard(conn, listener)
    conn.execute(f"UPDATE request SET {change}".encode())
    assert heard(conn, listener)["vcl_cancel"]


def test_a_change_that_changes_nothing_is_not_said(conn: Connection, lab: Lab, listener: Listener) -> None:
    a_request(conn, lab, remote_address="192.0.2.7")
    heard(conn, listener)
    conn.execute("UPDATE request SET remote_address = '192.0.2.7', end_time = end_time")
    assert heard(conn, listener) == {channel: [] for channel in CHANNELS}


def test_each_step_of_a_load_is_told(conn: Connection, lab: Lab, listener: Listener) -> None:
    claim = claimed(conn, lab)
    heard(conn, listener)
    for step in ("startload", "bootstate"):
        line = journal.Line(
            kind="step",
            said=step,
            request_id=claim.request_id,
            reservation_id=claim.reservation_id,
            computer_id=lab.computers[0],
            step=step,
        )
        journal.write(conn, [line])
    told = [(story["id"], story["step"]) for story in stories(heard(conn, listener)["vcl_request"])]
    assert told == [(claim.request_id, "startload"), (claim.request_id, "bootstate")]


def test_why_it_waits_is_told(conn: Connection, lab: Lab, listener: Listener) -> None:
    made = a_request(conn, lab)
    heard(conn, listener)
    (waiting,) = allocation.in_queue(conn, 10)
    allocation.say_why(conn, [(waiting.reservation_id, "all 4 computers are taken")])
    allocation.say_why(conn, [(waiting.reservation_id, "all 4 computers are taken")])
    (story,) = stories(heard(conn, listener)["vcl_request"])
    assert (story["id"], story["because"]) == (made, "all 4 computers are taken")


def test_a_computer_that_becomes_free_wakes_the_daemon_for_who_waits(
    conn: Connection, lab: Lab, listener: Listener
) -> None:
    claim = occupied(conn, claimed(conn, lab))
    for event in (Event.ENDED, Event.CLOSED):
        kept = outcomes.done(conn, claim, event, noted=NOTHING, rules=RULES, keep=True)
        assert kept
        claim = kept.claim
    a_request(conn, lab)
    heard(conn, listener)
    outcomes.done(conn, claim, Event.RECLAIMED, noted=NOTHING, rules=RULES, keep=True)
    assert heard(conn, listener)["vcl_due"]


def test_the_next_reservation_of_a_freed_computer_is_due_at_once(conn: Connection, lab: Lab) -> None:
    """It began while the last one was still being taken back, and would look again only after a while."""
    first = a_request(conn, lab, computer_id=lab.computers[0], end_time=sql.SQL("now() + interval '200 ms'"))
    (claim,) = claim_all(conn)
    assert claim.request_id == first
    claim = occupied(conn, claim)
    conn.execute("SELECT pg_sleep(0.21)")
    second = a_request(conn, lab, computer_id=lab.computers[0])
    outcomes.again(conn, claim_all(conn)[0], Again(after=900, because="the computer is still another's"))
    assert claim_all(conn) == []
    for event in (Event.ENDED, Event.CLOSED, Event.RECLAIMED):
        kept = outcomes.done(conn, claim, event, noted=NOTHING, rules=RULES, keep=True)
        claim = kept.claim if kept else claim
    assert [claim.request_id for claim in claim_all(conn)] == [second]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE computer SET state = 'available' WHERE name = 'vcl-1'",
        "INSERT INTO computer (name, kind, module, private_address) VALUES ('blade-1', 'blade', 'sim', '10.9.0.1')",
    ],
)
def test_a_computer_that_comes_wakes_the_daemon(conn: Connection, lab: Lab, listener: Listener, change: str) -> None:
    conn.execute("UPDATE computer SET state = 'maintenance' WHERE name = 'vcl-1'")
    heard(conn, listener)
    conn.execute(change.encode())
    assert heard(conn, listener)["vcl_due"]


def test_a_host_that_comes_back_into_service_wakes_the_daemon(conn: Connection, lab: Lab, listener: Listener) -> None:
    conn.execute("UPDATE vm_host SET in_service = false")
    heard(conn, listener)
    conn.execute("UPDATE vm_host SET in_service = true")
    assert heard(conn, listener)["vcl_due"]


def test_what_a_dead_node_had_wakes_the_living(conn: Connection, lab: Lab, listener: Listener) -> None:
    claimed(conn, lab)
    heard(conn, listener)
    assert claims.reap(conn) == 0
    assert heard(conn, listener)["vcl_due"] == []
    conn.execute("UPDATE reservation SET lease_until = vcl.now() - interval '1 s'")
    claims.reap(conn)
    assert heard(conn, listener)["vcl_due"]


def test_a_failure_is_told_with_its_state(conn: Connection, lab: Lab, listener: Listener) -> None:
    made = a_request(conn, lab)
    heard(conn, listener)
    allocation.refuse(conn, made, Fault(kind=FaultKind.REFUSED, said="no", hint="ask later"))
    assert [story["state"] for story in stories(heard(conn, listener)["vcl_request"])] == ["failed"]


def test_what_is_rolled_back_is_not_heard(conn: Connection, lab: Lab, listener: Listener) -> None:
    with conn.transaction(force_rollback=True):
        allocated(conn, a_request(conn, lab), lab.computers[0])
    assert heard(conn, listener) == {channel: [] for channel in CHANNELS}
