"""What must be on disk before the work goes on: facts of computers, effects; and what a turn is told."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from a_lab import KEY, RULES, Lab, a_lab, a_request, a_user, allocated, an_image, claim_all, claimed, occupied

from vcl_provision.model.faults import LeaseLost
from vcl_provision.model.lab import ConnectMethod, ConnectPort
from vcl_provision.model.reservation import Claim, Timings
from vcl_provision.model.secret import Secret
from vcl_provision.model.states import ComputerState, Event, RequestState
from vcl_provision.store import computers, effects, outcomes
from vcl_provision.store.database import Connection
from vcl_provision.store.work import Gathered, gather, keep_password
from vcl_provision.workflow.outcome import NOTHING


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


@pytest.fixture
def claim(conn: Connection, lab: Lab) -> Claim:
    return claimed(conn, lab)


def gathered(conn: Connection, claim: Claim) -> Gathered:
    found = gather(conn, claim, Timings())
    assert found is not None
    return found


def value(conn: Connection, question: str, *args: object) -> Any:
    return conn.execute(question.encode(), args).fetchall()[0][0]


def lost(claim: Claim) -> Claim:
    return replace(claim, token=uuid4())


# What a turn is told


def test_a_turn_is_told_all_of_it(conn: Connection, lab: Lab, claim: Claim) -> None:
    found = gathered(conn, claim)
    assert isinstance(found.lab_id, UUID)
    assert (found.request.id, found.request.state, found.request.reservations) == (
        claim.request_id,
        RequestState.NEW,
        1,
    )
    assert (found.reservation.id, found.reservation.parent, found.reservation.occupies) == (
        claim.reservation_id,
        True,
        False,
    )
    assert (found.computer.name, found.computer.state) == ("vcl-1", ComputerState.AVAILABLE)
    assert found.computer.private_address == ip_address("10.20.0.10")
    assert found.computer.host is not None
    assert found.computer.host.profile.name == "standard"
    assert (found.revision.image, found.revision.name, found.revision.os_module) == ("debian12", "debian12-v0", "sim")
    assert found.revision.connect_methods == (ConnectMethod(name="ssh", ports=(ConnectPort(protocol="tcp", port=22),)),)
    assert (found.user.name, found.user.affiliation, found.user.keys) == ("alice", "Local", (KEY,))
    assert found.request.timings == Timings()


def test_a_turn_is_told_nothing_once_the_claim_is_lost(conn: Connection, claim: Claim) -> None:
    assert gather(conn, lost(claim), Timings()) is None


def test_timings_are_the_affiliations_before_the_labs_before_the_settings(
    conn: Connection, lab: Lab, claim: Claim
) -> None:
    affiliation = value(conn, "SELECT id FROM affiliation")
    conn.execute(
        """
        INSERT INTO timing (name, affiliation_id, seconds)
        VALUES ('inuse_check', NULL, 111), ('connect_poll', NULL, 2), ('connect_poll', %s, 1)
        """,
        [affiliation],
    )
    found = gather(conn, claim, Timings(acknowledgetimeout=77))
    assert found
    assert found.request.timings == Timings(acknowledgetimeout=77, inuse_check=111, connect_poll=1)


def test_a_timing_is_set_once_for_each(conn: Connection, lab: Lab) -> None:
    conn.execute("INSERT INTO timing (name, seconds) VALUES ('inuse_check', 1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("INSERT INTO timing (name, seconds) VALUES ('inuse_check', 2)")


def test_an_image_with_connect_methods_has_those(conn: Connection, lab: Lab, claim: Claim) -> None:
    conn.execute("INSERT INTO connect_method (name, service) VALUES ('rdp', 'TermService')")
    conn.execute(
        """
        INSERT INTO connect_method_port
        SELECT id, protocol, 3389 FROM connect_method, (VALUES ('tcp'), ('udp')) AS p (protocol) WHERE name = 'rdp'
        """
    )
    conn.execute(
        "INSERT INTO image_connect_method SELECT %s, id FROM connect_method WHERE name = 'rdp'", [lab.image_id]
    )
    ports = (ConnectPort(protocol="tcp", port=3389), ConnectPort(protocol="udp", port=3389))
    assert gathered(conn, claim).revision.connect_methods == (
        ConnectMethod(name="rdp", service="TermService", ports=ports),
    )


def test_the_lowest_reservation_of_a_request_is_the_parent(conn: Connection, lab: Lab) -> None:
    allocated(conn, a_request(conn, lab, machines=2), *lab.computers[:2])
    found = {claim.reservation_id: gathered(conn, claim).reservation.parent for claim in claim_all(conn)}
    assert [found[reservation] for reservation in sorted(found)] == [True, False]


def test_a_password_is_made_once_hidden_and_gone_when_it_is_over(conn: Connection, lab: Lab) -> None:
    claim = occupied(conn, claimed(conn, lab, columns={"user_id": a_user(conn, "bob")}))
    first = keep_password(conn, claim, Secret("correct horse"))
    assert keep_password(conn, claim, Secret("second")) == first
    found = gathered(conn, claim)
    assert found.user.password == first
    assert "correct horse" not in repr(found)
    for event in (Event.ENDED, Event.CLOSED, Event.RECLAIMED):
        kept = outcomes.done(conn, claim, event, noted=NOTHING, rules=RULES, keep=True)
        claim = kept.claim if kept else claim
    assert value(conn, "SELECT count(*) FROM reservation_password") == 0


# Facts of computers


def test_a_computer_is_taken_by_one_reservation_at_a_time(conn: Connection, lab: Lab, claim: Claim) -> None:
    computer = gathered(conn, claim).computer
    assert computers.occupy(conn, claim, computer)
    assert value(conn, "SELECT state FROM computer WHERE id = %s", computer.id) == "reloading"
    conn.execute("UPDATE reservation SET during = tstzrange(now() - interval '2 h', now() - interval '1 h')")
    second = claimed(conn, lab)
    assert computers.occupy(conn, second, computer) is None
    assert computers.occupy(conn, claim, computer)


def test_taking_it_tells_what_is_recorded_of_it_by_then(conn: Connection, lab: Lab, claim: Claim) -> None:
    computer = gathered(conn, claim).computer
    conn.execute("UPDATE computer SET tainted = true, host_key = 'ssh-ed25519 AAAA'")
    taken = computers.occupy(conn, claim, computer)
    assert taken
    assert (taken.tainted, taken.host_key) == (True, "ssh-ed25519 AAAA")


def test_a_load_forgets_what_was_there_before_and_a_loaded_computer_says_what_it_holds(
    conn: Connection, lab: Lab, claim: Claim
) -> None:
    conn.execute("UPDATE computer SET loaded_revision_id = %s, prepared = true, tainted = true", [lab.revision_id])
    computer = gathered(conn, claim).computer.id

    def fact() -> tuple[Any, ...]:
        found = gathered(conn, claim).computer
        return found.loaded_revision_id, found.prepared, found.tainted, found.host_key

    computers.loading(conn, claim, computer, "ssh-ed25519 NEW")
    assert fact() == (None, False, False, "ssh-ed25519 NEW")
    computers.prepared(conn, claim, computer, lab.revision_id)
    assert fact() == (lab.revision_id, True, False, "ssh-ed25519 NEW")
    computers.tainted(conn, claim, computer)
    assert fact() == (lab.revision_id, True, True, "ssh-ed25519 NEW")


def test_no_fact_is_written_by_who_lost_the_lease(conn: Connection, lab: Lab, claim: Claim) -> None:
    found, zombie = gathered(conn, claim).computer, lost(claim)
    with pytest.raises(LeaseLost):
        computers.occupy(conn, zombie, found)
    with pytest.raises(LeaseLost):
        computers.loading(conn, zombie, found.id, "key")
    with pytest.raises(LeaseLost):
        computers.prepared(conn, zombie, found.id, lab.revision_id)
    with pytest.raises(LeaseLost):
        computers.tainted(conn, zombie, found.id)
    with pytest.raises(LeaseLost):
        record(conn, zombie, found.id, "machine")
    assert gathered(conn, claim).computer == found


# Effects


def record(conn: Connection, claim: Claim, computer_id: int, action: str, **given: str) -> None:
    written = {"kind": "provisioning", "scope": "computer", **given}
    effects.record_effect(
        conn,
        claim=claim,
        computer_id=computer_id,
        kind=written["kind"],
        module="sim",
        scope=written["scope"],
        action=action,
        arguments={"name": "vcl-1", "n": 1},
    )


def outstanding(conn: Connection, claim: Claim, lab: Lab, scope: str) -> list[str]:
    found = effects.outstanding(conn, computer_id=lab.computers[0], reservation_id=claim.reservation_id, scope=scope)
    return [effect.action for effect in found]


def test_effects_come_back_newest_first_and_those_of_the_reservation_alone_if_asked(
    conn: Connection, lab: Lab, claim: Claim
) -> None:
    record(conn, claim, lab.computers[0], "machine")
    record(conn, claim, lab.computers[0], "user", kind="os", scope="reservation")
    record(conn, claim, lab.computers[0], "firewall", kind="os", scope="reservation")
    assert outstanding(conn, claim, lab, "computer") == ["firewall", "user", "machine"]
    assert outstanding(conn, claim, lab, "reservation") == ["firewall", "user"]


def test_an_effect_keeps_its_arguments(conn: Connection, lab: Lab, claim: Claim) -> None:
    record(conn, claim, lab.computers[0], "machine")
    (effect,) = effects.outstanding(
        conn, computer_id=lab.computers[0], reservation_id=claim.reservation_id, scope="computer"
    )
    assert effect.arguments == {"name": "vcl-1", "n": 1}
    assert (effect.kind, effect.module, effect.scope, effect.reservation_id) == (
        "provisioning",
        "sim",
        "computer",
        claim.reservation_id,
    )


def test_the_same_effect_is_not_outstanding_twice(conn: Connection, lab: Lab, claim: Claim) -> None:
    for _ in range(3):
        record(conn, claim, lab.computers[0], "machine")
    assert outstanding(conn, claim, lab, "computer") == ["machine"]


def test_what_is_undone_is_outstanding_no_more_and_a_computer_without_its_machine_holds_nothing(
    conn: Connection, lab: Lab, claim: Claim
) -> None:
    record(conn, claim, lab.computers[0], "machine")
    conn.execute("UPDATE computer SET loaded_revision_id = %s, prepared = true", [lab.revision_id])
    ids = [row[0] for row in conn.execute("SELECT id FROM effect").fetchall()]
    effects.mark_undone(conn, claim, ids)
    assert outstanding(conn, claim, lab, "computer") == []
    found = gathered(conn, claim).computer
    assert (found.loaded_revision_id, found.prepared) == (None, False)
    assert value(conn, "SELECT loaded_revision_id FROM computer WHERE id = %s", lab.computers[1]) == lab.revision_id


def test_who_lost_the_claim_forgets_nothing_that_another_has_loaded_since(
    conn: Connection, lab: Lab, claim: Claim
) -> None:
    record(conn, claim, lab.computers[0], "machine")
    conn.execute("UPDATE computer SET loaded_revision_id = %s, prepared = true", [lab.revision_id])
    ids = [row[0] for row in conn.execute("SELECT id FROM effect").fetchall()]
    with pytest.raises(LeaseLost):
        effects.mark_undone(conn, replace(claim, token=uuid4()), ids)
    assert outstanding(conn, claim, lab, "computer") == ["machine"]
    assert gathered(conn, claim).computer.loaded_revision_id == lab.revision_id


def test_undoing_what_was_done_inside_leaves_the_machine(conn: Connection, lab: Lab, claim: Claim) -> None:
    record(conn, claim, lab.computers[0], "user", kind="os", scope="reservation")
    conn.execute("UPDATE computer SET loaded_revision_id = %s", [lab.revision_id])
    effects.mark_undone(conn, claim, [row[0] for row in conn.execute("SELECT id FROM effect").fetchall()])
    assert gathered(conn, claim).computer.loaded_revision_id == lab.revision_id


def test_an_undo_that_failed_stays_outstanding_and_says_why(conn: Connection, lab: Lab, claim: Claim) -> None:
    record(conn, claim, lab.computers[0], "machine")
    effects.undo_failed(conn, value(conn, "SELECT id FROM effect"), "the host does not answer")
    assert outstanding(conn, claim, lab, "computer") == ["machine"]
    assert value(conn, "SELECT last_error FROM effect") == "the host does not answer"
    assert value(conn, "SELECT attempts FROM effect") == 1


def test_a_load_takes_earlier_effects_of_the_computer_with_it_but_not_its_own(conn: Connection, lab: Lab) -> None:
    first = claimed(conn, lab)
    record(conn, first, lab.computers[0], "machine")
    conn.execute("UPDATE request SET state = 'deleted'")
    second = claimed(conn, lab, columns={"image_id": an_image(conn, "other")[0]})
    record(conn, second, lab.computers[0], "disk")
    computers.prepared(conn, second, lab.computers[0], lab.revision_id)
    assert outstanding(conn, second, lab, "computer") == ["disk"]


def test_post_load_steps_alone_leave_the_machine_to_the_effect_that_removes_it(conn: Connection, lab: Lab) -> None:
    """It was loaded for another reservation, given back untouched, and lacked only its post-load steps."""
    first = claimed(conn, lab)
    record(conn, first, lab.computers[0], "machine")
    conn.execute("UPDATE request SET state = 'deleted'")
    second = claimed(conn, lab)
    record(conn, second, lab.computers[0], "user", kind="os", scope="reservation")
    computers.prepared(conn, second, lab.computers[0], lab.revision_id)
    assert outstanding(conn, second, lab, "computer") == ["user", "machine"]
