"""A reservation whose VM host has no room gets another host's computer: in one step, and never back."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from a_lab import RULES, Lab, a_lab, a_request, allocated, claim_all, claimed, occupied
from psycopg import sql

from vcl_provision.daemon.allocator import Allocator
from vcl_provision.model.faults import LeaseLost, NotAllowed
from vcl_provision.model.reservation import Claim, Timings
from vcl_provision.model.states import Event, RequestState
from vcl_provision.store import moving, outcomes
from vcl_provision.store.database import Connection, Database
from vcl_provision.store.work import gather
from vcl_provision.workflow.outcome import NOTHING

SAID = "/vm is full: 5 bytes are free, 9 are needed"


@pytest.fixture
def lab(conn: Connection) -> Lab:
    """Two computers on host-1; each test makes the other hosts that it needs."""
    return a_lab(conn, computers=2)


def another_host(conn: Connection, lab: Lab, name: str, computers: int = 1) -> list[int]:
    """The ids of its computers `NAME-1`, ..."""
    rows = conn.execute(
        """
        WITH host AS (INSERT INTO vm_host (name, address, vm_profile_id, module) VALUES (%s, '', %s, 'sim')
                      RETURNING id, name)
        INSERT INTO computer (name, module, vm_host_id, private_address)
        SELECT host.name || '-' || n, 'sim', host.id, '10.30.0.0'::inet + 256 * host.id::int + n
          FROM host, generate_series(1, %s) AS n RETURNING id
        """,
        [name, lab.profile_id, computers],
    ).fetchall()
    return [row[0] for row in rows]


def rows(conn: Connection, question: str, *args: object) -> list[Any]:
    return [row[0] if len(row) == 1 else row for row in conn.execute(question.encode(), args).fetchall()]


def left(conn: Connection, claim: Claim) -> bool:
    """Whether it left the host of the computer that it has."""
    (host,) = rows(
        conn,
        "SELECT c.vm_host_id FROM reservation r JOIN computer c ON c.id = r.computer_id WHERE r.id = %s",
        claim.reservation_id,
    )
    return moving.leave(conn, claim, host_id=host, because=SAID, rules=RULES)


def begun(conn: Connection, lab: Lab, **columns: object) -> Claim:
    """At work on vcl-1."""
    return occupied(conn, claimed(conn, lab, columns=columns))


def given(database: Database, conn: Connection) -> Claim:
    """The one claim after the next round of giving out computers."""
    Allocator(database=database).allocate()
    (claim,) = claim_all(conn)
    return occupied(conn, claim)


def all_of_it(conn: Connection) -> list[Any]:
    """What a move could have changed."""
    return [
        rows(conn, f"SELECT t::text FROM {table} t ORDER BY 1")
        for table in ("request", "reservation", "computer", "vm_host_refusal", "journal", "accounting_log")
    ]


def computer_of(conn: Connection, claim: Claim) -> str | None:
    (name,) = rows(
        conn,
        "SELECT c.name FROM reservation r LEFT JOIN computer c ON c.id = r.computer_id WHERE r.id = %s",
        claim.reservation_id,
    )
    return name


def test_it_gives_its_computer_back_and_gets_one_of_another_host(
    database: Database, conn: Connection, lab: Lab
) -> None:
    another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    assert left(conn, claim)
    assert rows(conn, "SELECT state FROM computer WHERE id = %s", lab.computers[0]) == ["available"]
    question = "SELECT computer_id, occupies, attempts, claim_token, lease_until, released_at FROM reservation"
    assert rows(conn, question) == [(None, False, 0, None, None, None)]
    assert rows(conn, "SELECT doing, moved FROM request_status") == [
        ("host-1 had no room for it: another computer is looked for", None)
    ]
    again = given(database, conn)
    assert (again.state, computer_of(conn, again)) == (RequestState.NEW, "host-2-1")
    assert rows(conn, "SELECT state, computer, moved FROM request_status") == [
        ("new", "host-2-1", "host-1 had no room, moved to host-2-1 on host-2")
    ]
    assert rows(conn, "SELECT c.name, j.said FROM journal j JOIN computer c ON c.id = j.computer_id ORDER BY j.id") == [
        ("vcl-1", f"host-1 had no room for it: {SAID}"),
        ("host-2-1", "moved from vcl-1 on host-1 to host-2-1 on host-2"),
    ]


def test_who_gives_out_computers_is_told_at_once(conn: Connection, lab: Lab, dsn: str) -> None:
    another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("LISTEN vcl_due")
        assert left(conn, claim)
        assert "queue" in [heard.payload for heard in other.notifies(timeout=5, stop_after=1)]


def test_its_former_computer_is_there_for_others_at_once(conn: Connection, lab: Lab) -> None:
    another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    with pytest.raises(psycopg.errors.ExclusionViolation):
        a_request(conn, lab, computer_id=lab.computers[0])
    assert left(conn, claim)
    second = a_request(conn, lab, computer_id=lab.computers[0])
    assert [occupied(conn, claim).request_id for claim in claim_all(conn)] == [second]


def test_it_goes_to_each_host_once_and_has_failed_when_the_last_refuses(
    database: Database, conn: Connection, lab: Lab
) -> None:
    another_host(conn, lab, "host-2")
    another_host(conn, lab, "host-3")
    claim = begun(conn, lab)
    been = [computer_of(conn, claim)]
    while left(conn, claim):
        claim = given(database, conn)
        been.append(computer_of(conn, claim))
    assert been == ["vcl-1", "host-2-1", "host-3-1"]
    assert rows(conn, "SELECT moved FROM request_status") == ["host-1, host-2 had no room, moved to host-3-1 on host-3"]


def test_it_is_before_those_who_came_later(database: Database, conn: Connection, lab: Lab) -> None:
    (other,) = another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    later = a_request(conn, lab)
    assert left(conn, claim)
    conn.execute("UPDATE vm_host SET in_service = false WHERE name = 'host-1'")
    Allocator(database=database).allocate()
    assert rows(conn, "SELECT request_id FROM reservation WHERE computer_id = %s", other) == [claim.request_id]
    assert rows(conn, "SELECT computer FROM request_status WHERE id = %s", later) == [None]


def test_a_computer_that_holds_the_image_is_not_taken_on_the_full_host(
    database: Database, conn: Connection, lab: Lab
) -> None:
    another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    holds = "UPDATE computer SET loaded_revision_id = %s, prepared = true WHERE id = %s"
    conn.execute(holds, [lab.revision_id, lab.computers[1]])
    assert left(conn, claim)
    assert computer_of(conn, given(database, conn)) == "host-2-1"


@pytest.mark.parametrize(
    "spoilt",
    [
        "DELETE FROM computer WHERE name = 'host-2-1'",
        "UPDATE computer SET state = 'maintenance' WHERE name = 'host-2-1'",
        "UPDATE computer SET ram_mb = 64 WHERE name = 'host-2-1'",
        "UPDATE vm_host SET in_service = false WHERE name = 'host-2'",
        "UPDATE request SET state = 'deleted'",
    ],
)
def test_it_stays_where_no_other_could_ever_be_its(conn: Connection, lab: Lab, spoilt: str) -> None:
    another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    conn.execute(spoilt.encode())
    before = all_of_it(conn)
    assert not left(conn, claim)
    assert all_of_it(conn) == before


@pytest.mark.parametrize("state", ["new", "reload"])
def test_who_asked_for_a_certain_computer_stays(conn: Connection, lab: Lab, state: str) -> None:
    another_host(conn, lab, "host-2")
    a_request(conn, lab, computer_id=lab.computers[0], state=state)
    (claim,) = claim_all(conn)
    occupied(conn, claim)
    before = all_of_it(conn)
    assert not left(conn, claim)
    assert all_of_it(conn) == before


def test_a_reload_of_any_computer_moves(database: Database, conn: Connection, lab: Lab) -> None:
    another_host(conn, lab, "host-2")
    claim = begun(conn, lab, state="reload")
    assert left(conn, claim)
    again = given(database, conn)
    assert (again.state, computer_of(conn, again)) == (RequestState.RELOAD, "host-2-1")


def test_who_has_a_machine_already_does_not_move(conn: Connection, lab: Lab) -> None:
    another_host(conn, lab, "host-2")
    kept = outcomes.done(conn, begun(conn, lab), Event.LOADED, noted=NOTHING, rules=RULES, keep=True)
    assert kept
    with pytest.raises(NotAllowed):
        left(conn, kept.claim)


def test_who_lost_the_lease_moves_nothing(conn: Connection, lab: Lab) -> None:
    another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    conn.execute("UPDATE reservation SET claim_token = gen_random_uuid()")
    before = all_of_it(conn)
    with pytest.raises(LeaseLost):
        left(conn, claim)
    assert all_of_it(conn) == before


def test_what_breaks_in_the_middle_leaves_it_where_it_was(conn: Connection, lab: Lab) -> None:
    another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    conn.execute("ALTER TABLE journal ADD CONSTRAINT breaks CHECK (said NOT LIKE '%had no room%')")
    before = all_of_it(conn)
    with pytest.raises(psycopg.errors.CheckViolation):
        left(conn, claim)
    assert all_of_it(conn) == before


def test_a_computer_that_was_put_out_of_service_meanwhile_stays_so(conn: Connection, lab: Lab) -> None:
    another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    conn.execute("UPDATE computer SET state = 'maintenance' WHERE id = %s", [lab.computers[0]])
    assert left(conn, claim)
    assert rows(conn, "SELECT state FROM computer WHERE id = %s", lab.computers[0]) == ["maintenance"]


def test_who_may_wait_waits_until_a_computer_elsewhere_is_free(database: Database, conn: Connection, lab: Lab) -> None:
    (other,) = another_host(conn, lab, "host-2")
    first = a_request(conn, lab, computer_id=other)
    claim = begun(conn, lab)
    assert left(conn, claim)
    Allocator(database=database).allocate()
    because = "host-1 had no room for it; elsewhere the one computer that can run the image is taken"
    assert rows(conn, "SELECT doing FROM request_status WHERE id = %s", claim.request_id) == [because]
    conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [first])
    assert computer_of(conn, given(database, conn)) == "host-2-1"


def test_it_gets_a_computer_only_for_all_of_its_time(database: Database, conn: Connection, lab: Lab) -> None:
    (booked,) = another_host(conn, lab, "host-2")
    claim = begun(conn, lab)
    a_request(conn, lab, computer_id=booked, start_time=sql.SQL("now() + interval '1 hour'"))
    another_host(conn, lab, "host-3")
    assert left(conn, claim)
    assert computer_of(conn, given(database, conn)) == "host-3-1"


def test_who_may_not_wait_is_refused_and_told_of_the_full_host(database: Database, conn: Connection, lab: Lab) -> None:
    (other,) = another_host(conn, lab, "host-2")
    a_request(conn, lab, computer_id=other)
    claim = begun(conn, lab, wait_for_computer=False)
    assert left(conn, claim)
    Allocator(database=database).allocate()
    assert rows(conn, "SELECT state, fault FROM request_status WHERE id = %s", claim.request_id) == [
        ("failed", "host-1 had no room for it; elsewhere the one computer that can run the image is taken")
    ]


# Of a cluster one machine moves


def cluster(conn: Connection, lab: Lab, **columns: object) -> list[Claim]:
    """Two machines at work: on vcl-1 of host-1, and on host-2-1; host-2-2 is free."""
    others = another_host(conn, lab, "host-2", 2)
    allocated(conn, a_request(conn, lab, machines=2, **columns), lab.computers[0], others[0])
    return sorted((occupied(conn, claim) for claim in claim_all(conn)), key=lambda claim: claim.reservation_id)


def test_of_a_cluster_the_one_concerned_moves_and_the_others_go_on(
    database: Database, conn: Connection, lab: Lab
) -> None:
    one, other = cluster(conn, lab)
    assert left(conn, one)
    assert outcomes.done(conn, other, Event.LOADED, noted=NOTHING, rules=RULES, keep=True) is None
    assert rows(conn, "SELECT state FROM request") == ["new"]
    again = given(database, conn)
    assert (again.reservation_id, computer_of(conn, again)) == (one.reservation_id, "host-2-2")
    outcomes.done(conn, again, Event.LOADED, noted=NOTHING, rules=RULES, keep=True)
    assert rows(conn, "SELECT state, moved FROM request_status") == [
        ("reserved", "host-1 had no room, moved to host-2-2 on host-2")
    ]
    assert sorted(rows(conn, "SELECT c.name FROM accounting_log JOIN computer c ON c.id = computer_id")) == [
        "host-2-1",
        "host-2-2",
    ]


def test_a_cluster_of_which_one_is_refused_stops_the_work_on_the_others(
    database: Database, conn: Connection, lab: Lab, dsn: str
) -> None:
    one, other = cluster(conn, lab, wait_for_computer=False)
    conn.execute("UPDATE computer SET state = 'maintenance' WHERE name = 'host-2-2'")
    assert left(conn, one)
    with psycopg.connect(dsn, autocommit=True) as listening:
        listening.execute("LISTEN vcl_cancel")
        Allocator(database=database).allocate()
        heard = [heard.payload for heard in listening.notifies(timeout=5, stop_after=1)]
    assert heard == [str(other.reservation_id)]
    gathered = gather(conn, other, Timings())
    assert gathered
    assert gathered.request.state is RequestState.FAILED
