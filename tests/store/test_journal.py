"""What happened, in order, and for how long it is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from a_lab import Lab, a_lab, a_request, claimed

from vcl_provision.model.reservation import Claim
from vcl_provision.store import journal, requests
from vcl_provision.store.database import Connection, Database
from vcl_provision.store.journal import Line


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


@pytest.fixture
def claim(conn: Connection, lab: Lab) -> Claim:
    return claimed(conn, lab)


def of(claim: Claim, lab: Lab, **given: Any) -> Line:
    usual: dict[str, Any] = {
        "kind": "step",
        "said": "starting the machine",
        "request_id": claim.request_id,
        "reservation_id": claim.reservation_id,
        "computer_id": lab.computers[0],
    }
    return Line(**usual | given)


def test_lines_come_back_in_the_order_in_which_they_were_written(conn: Connection, lab: Lab, claim: Claim) -> None:
    journal.write(conn, [of(claim, lab, said=f"line {number}") for number in range(50)])
    found = requests.journal_since(conn, 0, request_id=claim.request_id)
    assert [entry.said for entry in found] == [f"line {number}" for number in range(50)]
    assert [entry.said for entry in requests.journal_since(conn, found[-3].id)] == ["line 48", "line 49"]
    assert [entry.said for entry in requests.journal_since(conn, 0, limit=2)] == ["line 48", "line 49"]
    assert found[0].computer == "vcl-1"


def test_a_step_is_in_the_load_log_and_the_last_one_says_what_is_done(conn: Connection, lab: Lab, claim: Claim) -> None:
    journal.write(
        conn, [of(claim, lab, step="startload"), of(claim, lab, kind="note"), of(claim, lab, step="bootstate")]
    )
    assert [step.step for step in requests.steps_of(conn, claim.request_id)] == ["startload", "bootstate"]
    status = requests.status_of(conn, claim.request_id)
    assert status
    assert status.doing == "waiting for the guest to boot"


def test_many_lines_are_one_statement_or_two(database: Database) -> None:
    with database.session() as conn:
        lab = a_lab(conn)
        claim = claimed(conn, lab)
        before = database.counts.statements
        journal.write(conn, [of(claim, lab, step="bootstate") for _ in range(100)])
        assert database.counts.statements - before <= 2


def test_lines_about_what_is_gone_are_kept(conn: Connection, lab: Lab) -> None:
    journal.write(conn, [Line(kind="step", said="x", request_id=7, reservation_id=7, computer_id=7, step="bootstate")])
    assert [entry.request_id for entry in requests.journal_since(conn, 0)] == [7]
    assert conn.execute("SELECT reservation_id, step FROM load_log").fetchall() == [(7, "bootstate")]


@pytest.mark.parametrize(
    "said", ["a\x00b", "'; DROP TABLE journal; --", "é" * 5000, "\ud800".encode("utf-8", "replace").decode()]
)
def test_whatever_a_guest_says_can_be_written(conn: Connection, lab: Lab, claim: Claim, said: str) -> None:
    journal.write(conn, [of(claim, lab, said=said, info=said, step="bootstate", fields={"stdout": said, "n": 1})])
    (entry,) = requests.journal_since(conn, 0)
    assert entry.said == said.replace("\x00", "\ufffd")
    assert entry.fields["stdout"] == entry.said


def test_nothing_to_write_is_nothing_written(conn: Connection) -> None:
    journal.write(conn, [])
    assert requests.journal_since(conn, 0) == []


def test_what_is_old_is_forgotten_and_what_is_not_over_stays(conn: Connection, lab: Lab, claim: Claim) -> None:
    old = datetime.now(UTC) - timedelta(days=40)
    journal.write(conn, [of(claim, lab, at=old, said="old"), of(claim, lab, said="new", step="bootstate")])
    over = a_request(conn, lab)
    conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [over])
    conn.execute("UPDATE request SET state_since = %s", [old])
    journal.prune(conn, journal=30 * 86400.0, load_log=30 * 86400.0)
    assert "old" not in [entry.said for entry in requests.journal_since(conn, 0)]
    assert conn.execute("SELECT id FROM request").fetchall() == [(claim.request_id,)]
    assert conn.execute("SELECT count(*) FROM accounting_log").fetchall() == [(2,)]
