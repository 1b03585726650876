"""Who waits for a computer, which there are, and that none is given twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from a_lab import Lab, a_lab, a_request, allocated, an_image, claim_all, claimed, occupied
from psycopg import sql

from vcl_provision.daemon.allocator import Allocator
from vcl_provision.model.faults import Fault
from vcl_provision.model.states import FaultKind
from vcl_provision.store import allocation
from vcl_provision.store.database import Connection, Database

NO = Fault(kind=FaultKind.REFUSED, said="no computer is free", hint="ask for another time")


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


def rows(conn: Connection, question: str, *args: object) -> list[Any]:
    return [row[0] if len(row) == 1 else row for row in conn.execute(question.encode(), args).fetchall()]


def queue(conn: Connection) -> list[int]:
    return [waiting.request_id for waiting in allocation.in_queue(conn, 100)]


def test_the_queue_is_by_start_then_by_arrival(conn: Connection, lab: Lab) -> None:
    later = a_request(conn, lab, start_time=sql.SQL("now() + interval '1 day'"))
    first, second = a_request(conn, lab), a_request(conn, lab)
    assert queue(conn) == [first, second, later]
    assert [waiting.request_id for waiting in allocation.in_queue(conn, 1)] == [first]


def test_who_has_a_computer_or_is_over_does_not_wait(conn: Connection, lab: Lab) -> None:
    allocated(conn, a_request(conn, lab), lab.computers[0])
    a_request(conn, lab, computer_id=lab.computers[1])
    gone = a_request(conn, lab)
    conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [gone])
    assert queue(conn) == []


def standing(conn: Connection, lab: Lab, *revisions: int) -> dict[int, allocation.Standing]:
    found = allocation.standing(conn, revisions or [lab.revision_id], 0.0, 4e9)
    return {computer.computer_id: computer for computer in found}


def test_only_computers_in_service_that_can_run_the_image_stand_ready(conn: Connection, lab: Lab) -> None:
    conn.execute("UPDATE computer SET state = 'maintenance' WHERE id = %s", [lab.computers[0]])
    conn.execute("UPDATE computer SET ram_mb = 128 WHERE id = %s", [lab.computers[1]])
    assert set(standing(conn, lab)) == set(lab.computers[2:])
    conn.execute("UPDATE vm_host SET in_service = false")
    assert standing(conn, lab) == {}


def test_a_computer_tells_which_of_the_revisions_it_could_run(conn: Connection, lab: Lab) -> None:
    _, small = an_image(conn, "small", min_ram_mb=64)
    conn.execute("UPDATE computer SET ram_mb = 128 WHERE id = %s", [lab.computers[0]])
    found = standing(conn, lab, lab.revision_id, small)
    assert list(found[lab.computers[0]].runs) == [small]
    assert set(found[lab.computers[1]].runs) == {small, lab.revision_id}


@pytest.mark.parametrize(
    ("marks", "holds"),
    [("prepared = true", "it"), ("prepared = false", ""), ("prepared = true, tainted = true", "")],
)
def test_a_computer_holds_an_image_only_if_it_is_ready_and_nobody_was_in(
    conn: Connection, lab: Lab, marks: str, holds: str
) -> None:
    conn.execute(f"UPDATE computer SET loaded_revision_id = {lab.revision_id}, {marks}".encode())
    assert standing(conn, lab)[lab.computers[0]].holds == (lab.revision_id if holds else None)


def test_a_computer_tells_when_it_is_taken(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab, computer_id=lab.computers[0])
    ended = a_request(conn, lab, computer_id=lab.computers[1])
    conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [ended])
    found = standing(conn, lab)
    (span,) = rows(conn, "SELECT extract(epoch FROM start_time)::float8 FROM request WHERE id = %s", made)
    assert list(found[lab.computers[0]].busy_from) == [span]
    assert list(found[lab.computers[1]].busy_from) == []
    occupied(conn, claim_all(conn)[0])
    assert not standing(conn, lab)[lab.computers[0]].free_now


def test_one_computer_is_not_given_twice_for_the_same_time(conn: Connection, lab: Lab) -> None:
    allocated(conn, a_request(conn, lab), lab.computers[0])
    second = a_request(conn, lab)
    (waiting,) = allocation.in_queue(conn, 9)
    with pytest.raises(allocation.Taken):
        allocation.assign(conn, [(waiting.reservation_id, lab.computers[0])])
    assert queue(conn) == [second]


def test_of_several_all_are_given_or_none(conn: Connection, lab: Lab) -> None:
    a_request(conn, lab, machines=2)
    first, second = (waiting.reservation_id for waiting in allocation.in_queue(conn, 9))
    with pytest.raises(allocation.Taken):
        allocation.assign(conn, [(first, lab.computers[0]), (second, lab.computers[0])])
    assert rows(conn, "SELECT DISTINCT computer_id FROM reservation") == [None]


def test_a_request_given_back_meanwhile_gets_nothing(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab)
    (waiting,) = allocation.in_queue(conn, 9)
    conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [made])
    allocation.assign(conn, [(waiting.reservation_id, lab.computers[0])])
    assert rows(conn, "SELECT computer_id FROM reservation") == [None]


def test_one_node_decides_at_a_time(database: Database) -> None:
    with database.transaction() as first, database.transaction() as second:
        assert allocation.may_decide(first)
        assert not allocation.may_decide(second)
    with database.transaction() as third:
        assert allocation.may_decide(third)


def test_refused_it_has_failed_with_the_reason_and_nothing_is_left(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab)
    allocation.refuse(conn, made, NO)
    assert rows(conn, "SELECT state, fault_kind, fault_said, fault_hint FROM request") == [
        ("failed", "refused", NO.said, NO.hint)
    ]
    assert rows(conn, "SELECT due_at, released_at IS NOT NULL FROM reservation") == [(None, True)]
    assert rows(conn, "SELECT ending, final_end IS NOT NULL FROM accounting_log") == [("failed", True)]
    assert queue(conn) == []


def test_a_cluster_refused_gives_back_what_it_had_already(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab, machines=2)
    first = allocation.in_queue(conn, 9)[0]
    allocation.assign(conn, [(first.reservation_id, lab.computers[0])])
    allocation.refuse(conn, made, NO)
    assert [claim.reservation_id for claim in claim_all(conn)] == [first.reservation_id]


def test_what_waited_until_its_end_is_found(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab, end_time=sql.SQL("now() + interval '1 h'"))
    a_request(conn, lab)
    assert allocation.waited_in_vain(conn) == []
    conn.execute(
        "CREATE OR REPLACE FUNCTION vcl.now() RETURNS timestamptz LANGUAGE sql STABLE "
        "RETURN statement_timestamp() + interval '2 h'"
    )
    assert allocation.waited_in_vain(conn) == [made]
    assert made not in queue(conn)


# With the daemon's allocator, which asks these questions


def test_those_for_whom_there_is_no_computer_wait_in_order_with_the_reason_shown(
    database: Database, conn: Connection, lab: Lab
) -> None:
    made = [a_request(conn, lab) for _ in range(6)]
    Allocator(database=database).allocate()
    assert queue(conn) == made[4:]
    assert set(rows(conn, "SELECT doing FROM request_status WHERE computer IS NULL")) == {
        "all 4 computers that can run the image are taken"
    }


def test_who_asked_not_to_wait_is_refused(database: Database, conn: Connection, lab: Lab) -> None:
    for _ in range(4):
        a_request(conn, lab)
    made = a_request(conn, lab, wait_for_computer=False)
    Allocator(database=database).allocate()
    assert rows(conn, "SELECT id, fault_said FROM request WHERE state = 'failed'") == [
        (made, "all 4 computers that can run the image are taken")
    ]


def test_future_requests_are_assigned_at_once_and_kept(database: Database, conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab, start_time=sql.SQL("now() + interval '1 day'"))
    Allocator(database=database).allocate()
    (computer,) = rows(conn, "SELECT computer_id FROM reservation WHERE request_id = %s", made)
    assert computer in lab.computers
    assert claim_all(conn) == []
    with pytest.raises(Exception, match=f"is taken: request {made}"):
        a_request(conn, lab, computer_id=computer, end_time=sql.SQL("now() + interval '2 days'"))


def test_a_computer_that_holds_the_image_is_preferred(database: Database, conn: Connection, lab: Lab) -> None:
    conn.execute(
        "UPDATE computer SET loaded_revision_id = %s, prepared = true WHERE id = %s",
        [lab.revision_id, lab.computers[2]],
    )
    a_request(conn, lab)
    Allocator(database=database).allocate()
    assert rows(conn, "SELECT computer_id FROM reservation") == [lab.computers[2]]


def test_nodes_that_allocate_at_once_give_each_computer_once(database: Database, conn: Connection) -> None:
    lab = a_lab(conn, computers=30)
    for _ in range(40):
        a_request(conn, lab)
    together = threading.Barrier(6)

    def allocate() -> None:
        together.wait()
        for _ in range(5):
            Allocator(database=database).allocate()

    threads = [threading.Thread(target=allocate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = rows(conn, "SELECT computer_id FROM reservation WHERE computer_id IS NOT NULL")
    assert len(given) == len(set(given)) == 30


def test_a_reservation_that_has_begun_does_not_keep_its_computer_beyond_its_time(conn: Connection, lab: Lab) -> None:
    """The next one may be promised the computer from the end on; it waits there until the computer is taken back."""
    claim = occupied(conn, claimed(conn, lab, columns={"end_time": sql.SQL("now() + interval '1 h'")}))
    made = a_request(conn, lab, start_time=sql.SQL("now() + interval '1 h'"), computer_id=lab.computers[0])
    assert made > claim.request_id
