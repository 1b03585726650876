"""What becomes of a turn: the request moves, the computer and the accounting log with it, all in one."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import psycopg
import pytest
from a_lab import RULES, Lab, a_lab, a_request, allocated, an_image, claim_all, claimed, occupied

from vcl_provision.model.faults import Fault, LeaseLost
from vcl_provision.model.reservation import Claim, Timings
from vcl_provision.model.states import Event, FaultKind, RequestState
from vcl_provision.store import allocation, computers, outcomes
from vcl_provision.store.database import Connection, Database
from vcl_provision.store.rules import Blame
from vcl_provision.store.work import gather
from vcl_provision.workflow.outcome import NOTHING, Again, Noted

FAULT = Fault(kind=FaultKind.TIMED_OUT, said="waited 300 s for the guest", hint="look at its console")


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


def values(conn: Connection, question: str, *args: object) -> Any:
    rows = conn.execute(question.encode(), args).fetchall()
    assert len(rows) == 1, rows
    return rows[0]


def done(conn: Connection, claim: Claim, event: Event, *, noted: Noted = NOTHING, keep: bool = True) -> Claim | None:
    kept = outcomes.done(conn, claim, event, noted=noted, rules=RULES, keep=keep)
    return kept and kept.claim


def on(conn: Connection, claim: Claim, *events: Event) -> Claim:
    """One event after the other, the claim kept."""
    for event in events:
        kept = done(conn, claim, event)
        assert kept is not None
        claim = kept
    return claim


def gave_up(conn: Connection, claim: Claim, *, blame: bool = True) -> Claim | None:
    fault = Blame(fault=FAULT, computer=blame)
    kept = outcomes.done(conn, claim, Event.GAVE_UP, noted=NOTHING, rules=RULES, keep=True, blame=fault)
    return kept and kept.claim


def begun(conn: Connection, lab: Lab, **columns: int) -> Claim:
    """A claim of a request that has begun to work on the lab's first computer."""
    return occupied(conn, claimed(conn, lab, columns=columns))


def test_a_whole_life_leaves_the_computer_free_and_the_books_written(conn: Connection, lab: Lab) -> None:
    claim = begun(conn, lab)
    claim = on(conn, claim, Event.LOADED)
    assert claim.state is RequestState.RESERVED
    assert values(conn, "SELECT state, last_state FROM request") == ("reserved", "new")
    assert values(conn, "SELECT state FROM computer WHERE id = %s", lab.computers[0]) == ("reserved",)
    came = datetime(2026, 1, 2, tzinfo=UTC)
    address = ip_address("192.0.2.7")
    kept = done(conn, claim, Event.CONNECTED, noted=Noted(connected_at=came, granted_address=address))
    assert kept
    assert values(conn, "SELECT state FROM computer WHERE id = %s", lab.computers[0]) == ("inuse",)
    claim = on(conn, kept, Event.ENDED, Event.CLOSED)
    assert done(conn, claim, Event.RECLAIMED) is None
    assert values(conn, "SELECT state, last_state FROM request") == ("complete", "reclaim")
    assert values(
        conn, "SELECT occupies, released_at IS NOT NULL, due_at, claim_token, lease_until, claimed_by FROM reservation"
    ) == (False, True, None, None, None, None)
    assert values(conn, "SELECT state FROM computer WHERE id = %s", lab.computers[0]) == ("available",)
    assert values(
        conn,
        """
        SELECT computer_id, ending, loaded_at IS NOT NULL, connected_at, host(remote_address), final_end IS NOT NULL,
               computer_blamed FROM accounting_log
        """,
    ) == (lab.computers[0], "EOR", True, came, "192.0.2.7", True, False)


def test_each_move_is_in_the_journal(conn: Connection, lab: Lab) -> None:
    on(conn, begun(conn, lab), Event.LOADED, Event.ENDED, Event.CLOSED)
    assert [row[0] for row in conn.execute("SELECT said FROM journal WHERE kind = 'state' ORDER BY id").fetchall()] == [
        "new -> reserved",
        "reserved -> timeout",
        "timeout -> reclaim",
    ]


@pytest.mark.parametrize(
    ("events", "ending"),
    [
        ((Event.LOADED, Event.NO_ACKNOWLEDGEMENT), "noack"),
        ((Event.LOADED, Event.NO_LOGIN), "nologin"),
        ((Event.LOADED, Event.CONNECTED, Event.LEFT), "timeout"),
        ((Event.LOADED, Event.ENDED), "EOR"),
        ((Event.ENDED,), "EOR"),
    ],
)
def test_the_accounting_log_has_vcls_word_for_how_it_ended(
    conn: Connection, lab: Lab, events: tuple[Event, ...], ending: str
) -> None:
    claim = on(conn, begun(conn, lab), *events, Event.CLOSED)
    done(conn, claim, Event.RECLAIMED)
    assert values(conn, "SELECT ending FROM accounting_log") == (ending,)


@pytest.mark.parametrize(("was_in", "ending"), [("was in", "released"), ("", "deleted")])
def test_given_back_is_released_once_the_user_was_in_and_deleted_before(
    conn: Connection, lab: Lab, was_in: str, ending: str
) -> None:
    claim = on(conn, begun(conn, lab), Event.LOADED)
    if was_in:
        kept = done(conn, claim, Event.CONNECTED, noted=Noted(connected_at=datetime.now(UTC)))
        assert kept
        claim = kept
    outcomes.again(conn, claim, Again(after=300))
    conn.execute("UPDATE request SET state = 'deleted'")
    (claim,) = claim_all(conn)
    done(conn, on(conn, claim, Event.CLOSED), Event.RECLAIMED)
    assert values(conn, "SELECT ending FROM accounting_log") == (ending,)


def test_what_is_not_kept_is_due_at_once_for_anybody(conn: Connection, lab: Lab) -> None:
    assert done(conn, begun(conn, lab), Event.LOADED, keep=False) is None
    (second,) = claim_all(conn, node="node-2")
    assert second.state is RequestState.RESERVED


def test_a_request_deleted_meanwhile_is_not_moved_and_its_worker_goes_on_with_that(conn: Connection, lab: Lab) -> None:
    claim = begun(conn, lab)
    conn.execute("UPDATE request SET state = 'deleted'")
    kept = done(conn, claim, Event.LOADED)
    assert kept is not None
    assert kept.state is RequestState.DELETED
    assert values(conn, "SELECT state, last_state FROM request") == ("deleted", "new")


def test_a_request_deleted_meanwhile_that_is_not_kept_is_due_at_once(conn: Connection, lab: Lab) -> None:
    claim = begun(conn, lab)
    conn.execute("UPDATE request SET state = 'deleted'")
    assert done(conn, claim, Event.LOADED, keep=False) is None
    assert [again.state for again in claim_all(conn)] == [RequestState.DELETED]


def test_given_back_while_its_computer_was_not_touched_it_is_over_and_the_worker_finds_its_lease_gone(
    conn: Connection, lab: Lab
) -> None:
    claim = claimed(conn, lab)
    gathered = gather(conn, claim, Timings())
    assert gathered
    conn.execute("UPDATE request SET state = 'deleted'")
    assert values(conn, "SELECT state FROM request") == ("complete",)
    with pytest.raises(LeaseLost):
        computers.occupy(conn, claim, gathered.computer)
    assert values(conn, "SELECT state FROM computer WHERE id = %s", lab.computers[0]) == ("available",)


def test_what_failed_says_why_and_is_undone_before_it_is_over(conn: Connection, lab: Lab) -> None:
    claim = gave_up(conn, begun(conn, lab))
    assert claim is not None
    assert claim.state is RequestState.FAILED
    assert values(conn, "SELECT state, fault_kind, fault_said, fault_hint FROM request") == (
        "failed",
        "timed_out",
        FAULT.said,
        FAULT.hint,
    )
    assert values(conn, "SELECT occupies, released_at FROM reservation") == (True, None)
    assert done(conn, claim, Event.RECLAIMED) is None
    assert values(conn, "SELECT state FROM request") == ("failed",)
    assert values(conn, "SELECT occupies, released_at IS NOT NULL FROM reservation") == (False, True)
    assert values(conn, "SELECT ending, computer_blamed, final_end IS NOT NULL FROM accounting_log") == (
        "failed",
        True,
        True,
    )
    assert values(conn, "SELECT said, fields ->> 'hint' FROM journal WHERE kind = 'fault'") == (FAULT.said, FAULT.hint)
    assert values(conn, "SELECT doing, fault, hint FROM request_status") == (FAULT.said, FAULT.said, FAULT.hint)


def fail(conn: Connection, lab: Lab, *, image_id: int, blame: bool = True) -> None:
    claim = gave_up(conn, begun(conn, lab, image_id=image_id), blame=blame)
    assert claim
    done(conn, claim, Event.RECLAIMED)


def state_of_the_computer(conn: Connection, lab: Lab) -> str:
    return values(conn, "SELECT state FROM computer WHERE id = %s", lab.computers[0])[0]


def test_two_failures_with_different_images_put_a_computer_out_of_service(conn: Connection, lab: Lab) -> None:
    other, _ = an_image(conn, "other")
    fail(conn, lab, image_id=lab.image_id)
    assert state_of_the_computer(conn, lab) == "available"
    fail(conn, lab, image_id=other)
    assert state_of_the_computer(conn, lab) == "failed"


def test_two_failures_with_the_same_image_speak_against_the_image(conn: Connection, lab: Lab) -> None:
    for _ in range(3):
        fail(conn, lab, image_id=lab.image_id)
    assert state_of_the_computer(conn, lab) == "available"


def test_failures_that_are_not_the_computers_are_no_evidence(conn: Connection, lab: Lab) -> None:
    other, _ = an_image(conn, "other")
    fail(conn, lab, image_id=lab.image_id, blame=False)
    fail(conn, lab, image_id=other)
    assert state_of_the_computer(conn, lab) == "available"


def test_a_success_between_two_failures_clears_the_computer(conn: Connection, lab: Lab) -> None:
    other, _ = an_image(conn, "other")
    fail(conn, lab, image_id=lab.image_id)
    claim = on(conn, begun(conn, lab), Event.LOADED, Event.ENDED, Event.CLOSED)
    done(conn, claim, Event.RECLAIMED)
    fail(conn, lab, image_id=other)
    assert state_of_the_computer(conn, lab) == "available"


def test_a_computer_under_maintenance_stays_so(conn: Connection, lab: Lab) -> None:
    claim = begun(conn, lab)
    conn.execute("UPDATE computer SET state = 'maintenance' WHERE id = %s", [lab.computers[0]])
    done(conn, on(conn, claim, Event.LOADED, Event.ENDED, Event.CLOSED), Event.RECLAIMED)
    assert state_of_the_computer(conn, lab) == "maintenance"


def test_a_failed_try_counts_and_waiting_does_not(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    for attempts in (1, 2):
        outcomes.again(conn, claim, Again(after=0, attempt=True, because="the host does not answer"))
        assert values(conn, "SELECT attempts, waiting_because FROM reservation") == (
            attempts,
            "the host does not answer",
        )
        (claim,) = claim_all(conn)
    outcomes.again(conn, claim, Again(after=0))
    assert values(conn, "SELECT attempts, waiting_because FROM reservation") == (0, None)


def test_what_a_turn_learned_is_kept_and_what_it_did_not_is_left(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    outcomes.again(conn, claim, Again(after=0, noted=Noted(granted_address=ip_address("192.0.2.7"), notices_sent=1)))
    (claim,) = claim_all(conn)
    outcomes.again(conn, claim, Again(after=0, noted=Noted(notices_sent=2)))
    assert values(conn, "SELECT host(granted_address), notices_sent FROM reservation") == ("192.0.2.7", 2)


def test_a_reason_with_a_zero_byte_is_kept_without_it(conn: Connection, lab: Lab) -> None:
    outcomes.again(conn, claimed(conn, lab), Again(after=0, because="a\x00b"))
    assert values(conn, "SELECT waiting_because FROM reservation") == ("ab",)


def test_settling_what_is_over_leaves_nothing_due(conn: Connection, lab: Lab) -> None:
    claim = claimed(conn, lab)
    outcomes.settle(conn, claim)
    assert values(conn, "SELECT due_at, claim_token, occupies, released_at IS NOT NULL FROM reservation") == (
        None,
        None,
        False,
        True,
    )


def test_a_life_of_one_machine_takes_one_statement_a_move(database: Database) -> None:
    with database.session() as conn:
        lab = a_lab(conn)
        claim = begun(conn, lab)
        before = database.counts.statements
        on(conn, claim, Event.LOADED, Event.CONNECTED, Event.ENDED, Event.CLOSED)
        assert database.counts.statements - before == 4


# Clusters


def a_cluster(conn: Connection, lab: Lab, machines: int = 2) -> list[Claim]:
    request = a_request(conn, lab, machines=machines)
    allocated(conn, request, *lab.computers[:machines])
    return [occupied(conn, claim) for claim in sorted(claim_all(conn), key=lambda claim: claim.reservation_id)]


def test_a_cluster_goes_on_when_the_last_of_its_machines_is_ready(conn: Connection, lab: Lab) -> None:
    first, second = a_cluster(conn, lab)
    assert done(conn, first, Event.LOADED) is None
    assert values(conn, "SELECT state FROM request") == ("new",)
    assert claim_all(conn) == []
    assert done(conn, second, Event.LOADED) is None
    assert values(conn, "SELECT state FROM request") == ("reserved",)
    assert [claim.state for claim in claim_all(conn)] == [RequestState.RESERVED] * 2


def test_a_cluster_is_over_when_all_its_machines_are_back(conn: Connection, lab: Lab) -> None:
    found = a_cluster(conn, lab)
    for event in (Event.LOADED, Event.ENDED, Event.CLOSED, Event.RECLAIMED):
        for claim in found:
            done(conn, claim, event)
        found = claim_all(conn)
    assert values(conn, "SELECT state FROM request") == ("complete",)
    assert values(conn, "SELECT count(*) FROM computer WHERE state = 'available'") == (4,)
    assert values(conn, "SELECT count(*) FROM accounting_log WHERE ending = 'EOR' AND final_end IS NOT NULL") == (2,)


def test_the_gravest_of_different_events_decides(conn: Connection, lab: Lab) -> None:
    for claim in a_cluster(conn, lab):
        done(conn, claim, Event.LOADED)
    first, second = claim_all(conn)
    done(conn, first, Event.NO_LOGIN)
    assert values(conn, "SELECT state FROM request") == ("reserved",)
    done(conn, second, Event.ENDED)
    assert values(conn, "SELECT state FROM request") == ("timeout",)
    assert values(conn, "SELECT DISTINCT ending FROM accounting_log") == ("EOR",)


def test_one_login_is_enough_for_a_cluster_to_be_in_use(conn: Connection, lab: Lab) -> None:
    for claim in a_cluster(conn, lab):
        done(conn, claim, Event.LOADED)
    first, second = claim_all(conn)
    done(conn, first, Event.CONNECTED)
    assert values(conn, "SELECT state FROM request") == ("inuse",)
    assert done(conn, second, Event.NO_LOGIN) == replace(second, state=RequestState.INUSE)
    assert values(conn, "SELECT state FROM request") == ("inuse",)


def test_one_of_a_cluster_that_changed_is_due_for_the_others_when_its_node_stops(conn: Connection, lab: Lab) -> None:
    first, second = a_cluster(conn, lab)
    gave_up(conn, first)
    claim_all(conn)
    assert done(conn, second, Event.LOADED, keep=False) is None
    assert [claim.reservation_id for claim in claim_all(conn)] == [second.reservation_id]


def test_one_machine_that_fails_fails_the_cluster_at_once_and_only_its_computer_is_blamed(
    conn: Connection, lab: Lab
) -> None:
    first, second = a_cluster(conn, lab)
    assert gave_up(conn, first) is None
    assert values(conn, "SELECT state FROM request") == ("failed",)
    kept = done(conn, second, Event.LOADED)
    assert kept, "nobody is woken for it: who has it goes on with it"
    for claim in (kept, *claim_all(conn)):
        assert claim.state is RequestState.FAILED
        done(conn, claim, Event.RECLAIMED)
    assert values(conn, "SELECT count(*) FROM reservation WHERE released_at IS NULL") == (0,)
    assert conn.execute("SELECT computer_blamed FROM accounting_log ORDER BY reservation_id").fetchall() == [
        (True,),
        (False,),
    ]


def test_two_machines_that_report_at_once_move_the_request_once(database: Database) -> None:

    with database.session() as conn:
        lab = a_lab(conn)
        found = a_cluster(conn, lab, machines=4)
    together = threading.Barrier(4)

    def report(claim: Claim) -> None:
        together.wait()
        with database.session() as conn:
            done(conn, claim, Event.LOADED)

    threads = [threading.Thread(target=report, args=[claim]) for claim in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.session() as conn:
        assert values(conn, "SELECT state FROM request") == ("reserved",)
        assert values(conn, "SELECT count(*) FROM journal WHERE said = 'new -> reserved'") == (1,)


@pytest.mark.parametrize("end", ["deleted", "failed"])
def test_a_cluster_that_ends_while_one_of_it_has_no_computer_yet_gives_all_back(
    conn: Connection, lab: Lab, end: str
) -> None:
    request = a_request(conn, lab, machines=2)
    rows = conn.execute("SELECT id FROM reservation WHERE request_id = %s ORDER BY id", [request]).fetchall()
    allocation.assign(conn, [(rows[0][0], lab.computers[0])])
    claim = occupied(conn, claim_all(conn)[0])
    if end == "deleted":
        conn.execute("UPDATE request SET state = 'deleted'")
        done(conn, claim, Event.LOADED, keep=False)
    else:
        gave_up(conn, claim)
    while found := claim_all(conn):
        done(
            conn,
            found[0],
            {"deleted": Event.CLOSED, "reclaim": Event.RECLAIMED, "failed": Event.RECLAIMED}[found[0].state],
        )
    assert values(conn, "SELECT count(*) FROM reservation WHERE released_at IS NULL") == (0,)
    assert values(conn, "SELECT count(*) FROM accounting_log WHERE final_end IS NULL OR ending = 'none'") == (0,)
    assert state_of_the_computer(conn, lab) == "available"


def test_an_end_frees_the_computer_for_who_waits_for_it_at_once(conn: Connection, lab: Lab) -> None:
    claim = begun(conn, lab)
    claim = on(conn, claim, Event.LOADED)
    outcomes.again(conn, claim, Again(after=300))
    conn.execute("UPDATE request SET state = 'deleted'")
    (claim,) = claim_all(conn)
    with pytest.raises(psycopg.errors.ExclusionViolation):
        a_request(conn, lab, computer_id=lab.computers[0])
    done(conn, on(conn, claim, Event.CLOSED), Event.RECLAIMED)
    second = a_request(conn, lab, computer_id=lab.computers[0])
    assert [claim.request_id for claim in claim_all(conn)] == [second]


def test_what_the_move_tells_is_what_asking_anew_would_tell(conn: Connection, lab: Lab) -> None:
    """Else a turn that follows at once would work on something that is not so."""
    claim = begun(conn, lab)
    conn.execute("UPDATE computer SET prepared = true, host_key = 'k', loaded_revision_id = %s", [lab.revision_id])
    conn.execute("UPDATE request SET remote_address = '192.0.2.9'")
    known = gather(conn, claim, Timings())
    assert known is not None
    conn.execute("UPDATE request SET remote_address = '2001:db8::7', end_time = end_time + interval '1 hour'")
    conn.execute("UPDATE computer SET prepared = false, tainted = true, host_key = 'other', loaded_revision_id = NULL")
    for event in (Event.LOADED, Event.CONNECTED, Event.ENDED, Event.CLOSED):
        noted = Noted(granted_address=ip_address("2001:db8::7"), notices_sent=2, last_seen_at=datetime.now(UTC))
        kept = outcomes.done(conn, claim, event, noted=noted, rules=RULES, keep=True, known=known)
        assert kept is not None
        asked = gather(conn, kept.claim, Timings())
        assert kept.known is not None
        assert asked is not None
        assert replace(kept.known, now=asked.now, asked_at=asked.asked_at) == asked
        assert kept.known.asked_at == known.asked_at < kept.known.now
        claim, known = kept.claim, kept.known
