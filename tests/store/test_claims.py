"""Who works on what: each reservation by one worker, a dead node's by another; nothing is forgotten."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from a_lab import RULES, Lab, a_lab, a_request, allocated, claim_all, claimed
from psycopg import sql

from vcl_provision.model.faults import LeaseLost
from vcl_provision.model.reservation import Claim, Timings
from vcl_provision.model.states import Event, RequestState
from vcl_provision.store import claims, nodes, outcomes
from vcl_provision.store.database import Connection, Database
from vcl_provision.store.work import gather
from vcl_provision.workflow.outcome import NOTHING, Again


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


def value(conn: Connection, question: str, *args: object) -> Any:
    return conn.execute(question.encode(), args).fetchall()[0][0]


def let_lease_end(conn: Connection, claim: Claim) -> None:
    conn.execute(
        "UPDATE reservation SET lease_until = vcl.now() - interval '1 s' WHERE id = %s", [claim.reservation_id]
    )


def test_a_claim_says_who_has_it_until_when(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    assert claim.state is RequestState.NEW
    assert claim.host_id == lab.host_id
    row = conn.execute(
        """
        SELECT r.claim_token, n.name, r.lease_until - r.claimed_at = interval '60 s', r.due_at = 'infinity'
          FROM reservation r JOIN management_node n ON n.id = r.claimed_by
        """
    ).fetchall()
    assert row == [(claim.token, "node-1", True, True)]


def test_what_is_claimed_is_not_claimed_again(conn: Connection, lab: Lab) -> None:
    claimed(conn, lab)
    assert claim_all(conn, node="node-2") == []


def test_what_has_no_computer_or_begins_later_or_is_over_is_not_claimed(conn: Connection, lab: Lab) -> None:
    a_request(conn, lab)
    a_request(conn, lab, computer_id=lab.computers[0], start_time=sql.SQL("now() + interval '1 hour'"))
    over = a_request(conn, lab, computer_id=lab.computers[1])
    conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [over])
    assert claim_all(conn) == []


def test_the_longest_due_comes_first_and_no_more_than_asked_for(conn: Connection, lab: Lab) -> None:
    made = [a_request(conn, lab, computer_id=computer) for computer in lab.computers]
    for minutes, request in enumerate(reversed(made)):
        conn.execute(
            "UPDATE reservation SET due_at = due_at - %s * interval '1 min' WHERE request_id = %s", [minutes, request]
        )
    node_id = nodes.register_node(conn, "node-1")
    found = claims.claim_due(conn, node_id=node_id, limit=2, lease_seconds=60, per_host=9, busy={}).claims
    assert {claim.request_id for claim in found} == {made[0], made[1]}


def test_a_vm_host_gets_no_more_work_than_it_may_have(conn: Connection, lab: Lab) -> None:
    for computer in lab.computers:
        a_request(conn, lab, computer_id=computer)
    node_id = nodes.register_node(conn, "node-1")

    def ask(busy: dict[int, int]) -> int:
        return len(claims.claim_due(conn, node_id=node_id, limit=9, lease_seconds=60, per_host=3, busy=busy).claims)

    assert ask({lab.host_id: 3}) == 0
    assert ask({lab.host_id: 2}) == 1
    assert ask({lab.host_id: 1}) == 2
    assert ask({}) == 1


def test_a_closed_host_does_not_keep_the_others_waiting(conn: Connection, lab: Lab) -> None:
    """Were its reservations to fill the window, those of other hosts would starve behind a dead hypervisor."""
    conn.execute(
        """
        INSERT INTO vm_host (name, address, vm_profile_id, module)
        SELECT 'host-2', 'x', vm_profile_id, module FROM vm_host
        """
    )
    conn.execute("UPDATE computer SET vm_host_id = (SELECT max(id) FROM vm_host) WHERE id = %s", [lab.computers[3]])
    for computer in lab.computers:
        a_request(conn, lab, computer_id=computer)
    found = claims.claim_due(
        conn,
        node_id=nodes.register_node(conn, "node-1"),
        limit=1,
        lease_seconds=60,
        per_host=3,
        busy={lab.host_id: 3},
    )
    assert [claim.host_id for claim in found.claims] == [value(conn, "SELECT max(id) FROM vm_host")]


def test_eight_who_claim_at_once_get_each_reservation_once(database: Database) -> None:
    with database.session() as conn:
        lab = a_lab(conn, computers=400)
        for computer in lab.computers:
            a_request(conn, lab, computer_id=computer)
        node_ids = [nodes.register_node(conn, f"node-{number}") for number in range(8)]
    together, found = threading.Barrier(8), list[Claim]()

    def work(node_id: int) -> None:
        together.wait()
        while True:
            with database.session() as conn:
                some = claims.claim_due(conn, node_id=node_id, limit=7, lease_seconds=60, per_host=999, busy={}).claims
            if not some:
                return
            found.extend(some)

    threads = [threading.Thread(target=work, args=[node_id]) for node_id in node_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = Counter(claim.reservation_id for claim in found)
    assert len(times) == 400
    assert set(times.values()) == {1}
    assert len({claim.token for claim in found}) == 400


def test_renewing_tells_how_the_request_is_now(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    assert claims.renew(conn, claims=[claim], lease_seconds=600)[0].state is RequestState.NEW
    assert value(conn, "SELECT lease_until > vcl.now() + interval '500 s' FROM reservation") is True
    conn.execute("UPDATE reservation SET occupies = true")
    conn.execute("UPDATE request SET state = 'deleted'")
    (renewal,) = claims.renew(conn, claims=[claim], lease_seconds=600)
    assert renewal.state is RequestState.DELETED
    assert renewal.token == claim.token
    assert 3 * 3600 < renewal.remaining <= 4 * 3600


def test_renewing_what_is_lost_gives_no_answer_for_it(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    assert claims.renew(conn, claims=[replace(claim, token=uuid4())], lease_seconds=60) == []


def test_a_lease_that_ended_is_taken_over_by_another_node(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    assert claims.reap(conn) == 0
    let_lease_end(conn, claim)
    assert claims.reap(conn) == 1
    (second,) = claim_all(conn, node="node-2")
    assert second.reservation_id == claim.reservation_id
    assert second.token != claim.token


def test_a_node_that_starts_again_takes_up_what_it_had_and_leaves_others_alone(conn: Connection, lab: Lab) -> None:
    for computer in lab.computers[:2]:
        a_request(conn, lab, computer_id=computer)
    ours, theirs = (nodes.register_node(conn, name) for name in ("node-1", "node-2"))
    for node_id in (ours, theirs):
        claims.claim_due(conn, node_id=node_id, limit=1, lease_seconds=60, per_host=9, busy={})
    assert claims.free_own(conn, ours) == 1
    assert len(claim_all(conn)) == 1


def zombie(conn: Connection, lab: Lab) -> Claim:
    """The claim of a worker that slept through its lease: another node has the reservation by now."""
    claim = claimed(conn, lab)
    let_lease_end(conn, claim)
    claims.reap(conn)
    assert claim_all(conn, node="node-2")
    return claim


def test_a_zombie_can_not_finish_what_another_node_has_taken_over(conn: Connection, lab: Lab) -> None:
    claim = zombie(conn, lab)
    before = value(conn, "SELECT to_json(r)::text FROM reservation r")
    with pytest.raises(LeaseLost):
        outcomes.done(conn, claim, Event.LOADED, noted=NOTHING, rules=RULES, keep=True)
    with pytest.raises(LeaseLost):
        outcomes.again(conn, claim, Again(after=5))
    outcomes.settle(conn, claim)
    assert gather(conn, claim, Timings()) is None
    assert value(conn, "SELECT to_json(r)::text FROM reservation r") == before
    assert value(conn, "SELECT state FROM request") == "new"


def seconds_to_next(conn: Connection) -> float | None:
    node_id = nodes.register_node(conn, "node-1")
    return claims.claim_due(conn, node_id=node_id, limit=0, lease_seconds=60, per_host=9, busy={}).next_in


def test_a_wake_during_a_claim_is_not_lost(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    conn.execute("UPDATE request SET remote_address = '192.0.2.7'")
    assert claim_all(conn) == []
    assert outcomes.again(conn, claim, Again(after=900)) == 0.0
    assert [again.reservation_id for again in claim_all(conn)] == [claim.reservation_id]


def test_without_a_wake_it_is_due_when_it_asked_to_be(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    assert outcomes.again(conn, claim, Again(after=900)) == pytest.approx(900, abs=1)
    assert claim_all(conn) == []
    assert seconds_to_next(conn) == pytest.approx(900, abs=5)


def test_a_wake_after_the_claim_was_given_back_makes_it_due(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    outcomes.again(conn, claim, Again(after=900))
    conn.execute("UPDATE request SET remote_address = '192.0.2.7'")
    assert [again.reservation_id for again in claim_all(conn)] == [claim.reservation_id]


def test_nothing_is_due_when_nothing_is_there(conn: Connection, lab: Lab) -> None:
    assert seconds_to_next(conn) is None
    claimed(conn, lab)
    assert seconds_to_next(conn) is None


def test_half_a_claim_cannot_be_written(conn: Connection, lab: Lab) -> None:
    claimed(conn, lab)
    with pytest.raises(psycopg.errors.CheckViolation, match="a_claim_is_whole"):
        conn.execute("UPDATE reservation SET lease_until = NULL")


def indexes_used(plan: Any) -> set[str]:
    found = {plan["Index Name"]} if "Index Name" in plan else set[str]()
    for part in plan.get("Plans", []):
        found |= indexes_used(part)
    return found


def test_ten_thousand_future_requests_do_not_slow_claiming(database: Database) -> None:
    """The claim reads what is due through the partial index, and nothing else of the reservations."""
    with database.session() as conn:
        lab = a_lab(conn, computers=40)
        conn.execute(
            """
            INSERT INTO request (user_id, image_id, computer_id, start_time, end_time)
            SELECT %s, %s, c.id, vcl.now() + n * interval '1 h', vcl.now() + n * interval '1 h' + interval '50 min'
              FROM computer c, generate_series(2, 251) AS n
            """,
            [lab.user_id, lab.image_id],
        )
        assert value(conn, "SELECT count(*) FROM reservation WHERE due_at > vcl.now()") == 10_000
        conn.execute("ANALYZE reservation")
        due = a_request(conn, lab, end_time=sql.SQL("now() + interval '30 min'"), computer_id=lab.computers[0])
        plan = plan_of_claiming(conn)
        assert "reservation_due" in indexes_used(plan)
        assert rows_removed(plan) < 100
        assert [claim.request_id for claim in claim_all(conn)] == [due]


def plan_of_claiming(conn: Connection) -> Any:
    """What the server would do for, and does with, the statement that claims."""
    asked: list[tuple[str, Any]] = []

    class Remembering(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **named: Any) -> Remembering:
            asked.append((query, params))
            super().execute(query, params, **named)
            return self

    node_id = nodes.register_node(conn, "explaining")
    usual, conn.cursor_factory = conn.cursor_factory, Remembering
    with conn.transaction(force_rollback=True):
        claims.claim_due(conn, node_id=node_id, limit=64, lease_seconds=60, per_host=16, busy={})
    conn.cursor_factory = usual
    ((query, params),) = [(query, params) for query, params in asked if "claim_token" in query]
    with conn.transaction(force_rollback=True):
        explained = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}".encode(), params).fetchall()
    return explained[0][0][0]["Plan"]


def rows_removed(plan: Any) -> int:
    own = plan.get("Rows Removed by Filter", 0) * plan.get("Actual Loops", 1)
    return int(own) + sum(rows_removed(part) for part in plan.get("Plans", []))


def test_what_waits_for_a_computer_does_not_slow_claiming_either(conn: Connection, lab: Lab) -> None:
    for _ in range(20):
        a_request(conn, lab)
    made = a_request(conn, lab)
    allocated(conn, made, lab.computers[0])
    assert [claim.request_id for claim in claim_all(conn)] == [made]
