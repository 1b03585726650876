"""What a front end asks in plain SQL: what is left out is filled in, what cannot be is refused by name, with a hint."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from a_lab import Lab, a_lab, a_request, a_user, allocated, an_image, claim_all
from psycopg import sql

from vcl_provision.store.database import Connection

HOSTILE = ["'; DROP TABLE request; --", "a" * 200, "", "$(reboot)", "`id`", "a b", "Alice", "root\n", "-rf", "é", "a;b"]


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


def one(conn: Connection, question: str, *args: object) -> Any:
    rows = conn.execute(question.encode(), args).fetchall()
    assert len(rows) == 1, rows
    return rows[0]


def refused(conn: Connection, statement: str, *args: object) -> tuple[str, str]:
    """The message and the hint with which the database refuses it."""
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(statement.encode(), args)
    return caught.value.diag.message_primary or "", caught.value.diag.message_hint or ""


def test_user_and_image_are_all_that_is_needed(conn: Connection, lab: Lab) -> None:
    made = one(
        conn,
        "INSERT INTO request (user_id, image_id) VALUES (user_named('alice'), image_named('debian12')) RETURNING id",
    )
    state, last, lasts, waits, remote = one(
        conn,
        "SELECT state, last_state, end_time - start_time, wait_for_computer, remote_address FROM request WHERE id = %s",
        made[0],
    )
    assert (state, last, lasts, waits, remote) == ("new", "new", timedelta(hours=4), True, None)
    assert one(conn, "SELECT image_revision_id, computer_id, due_at <= vcl.now() FROM reservation") == (
        lab.revision_id,
        None,
        True,
    )
    assert one(conn, "SELECT request_id, ending, final_end FROM accounting_log") == (made[0], "none", None)


def test_the_image_says_how_long_before_the_affiliation_does(conn: Connection, lab: Lab) -> None:
    conn.execute("UPDATE affiliation SET default_duration = '2 hours'")
    a_request(conn, lab)
    conn.execute("UPDATE image SET default_duration = '1 hour'")
    a_request(conn, lab)
    lengths = conn.execute("SELECT end_time - start_time FROM request ORDER BY id").fetchall()
    assert lengths == [(timedelta(hours=2),), (timedelta(hours=1),)]


def test_a_request_of_three_machines_has_three_reservations(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab, machines=3)
    assert one(conn, "SELECT count(*) FROM reservation WHERE request_id = %s", made) == (3,)


def test_a_user_of_two_affiliations_is_told_apart(conn: Connection, lab: Lab) -> None:
    a_user(conn, "alice", affiliation="Elsewhere")
    said, hint = refused(conn, "SELECT user_named('alice')")
    assert "2 users" in said
    assert "alice@AFFILIATION" in hint
    assert one(conn, "SELECT user_named('alice@Local')") == (lab.user_id,)


@pytest.mark.parametrize(
    ("question", "said", "hint"),
    [
        ("SELECT user_named('alcie')", 'no user named "alcie"', "alice"),
        ("SELECT image_named('debian')", 'no image named "debian"', "debian12"),
        ("SELECT computer_named('vcl1')", 'no computer named "vcl1"', "vcl-1"),
        ("SELECT user_named(NULL)", "no user named", "alice"),
    ],
)
def test_a_name_that_is_not_known_is_refused_with_known_ones(
    conn: Connection, lab: Lab, question: str, said: str, hint: str
) -> None:
    message, advice = refused(conn, question)
    assert said in message
    assert hint in advice


@pytest.mark.parametrize("function", ["user_named", "image_named", "computer_named"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_name_that_is_not_known(conn: Connection, lab: Lab, function: str, name: str) -> None:
    message, _ = refused(conn, f"SELECT {function}(%s)", name)
    assert f'named "{name}"' in message
    assert one(conn, "SELECT count(*) FROM request") == (0,)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_user_image_or_computer_gets_a_hostile_name(conn: Connection, lab: Lab, name: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        a_user(conn, name)
    with pytest.raises(psycopg.errors.CheckViolation):
        an_image(conn, name)
    with pytest.raises(psycopg.errors.CheckViolation):
        conn.execute("UPDATE computer SET name = %s WHERE name = 'vcl-1'", [name])


@pytest.mark.parametrize(
    "key", ["", "no key", "ssh-rsa short", "ssh-ed25519 " + "A" * 60 + "\ncommand=x", "ssh-x " + "A" * 60]
)
def test_a_key_that_is_no_key_is_refused(conn: Connection, lab: Lab, key: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="key_is_a_line_of_authorized_keys"):
        conn.execute("INSERT INTO user_key (user_id, line) VALUES (%s, %s)", [lab.user_id, key])


@pytest.mark.parametrize(
    ("columns", "said", "hint"),
    [
        ({"end_time": sql.SQL("now() - interval '1 hour'")}, "would end .* before it starts", "leave it out"),
        (
            {"start_time": sql.SQL("now() - interval '2 hours'"), "end_time": sql.SQL("now() - interval '1 hour'")},
            "would be over already",
            "in the future",
        ),
        ({"state": "inuse"}, 'begins as "new"', "leave state out"),
        ({"user_id": 999}, "no user with the id 999", "user_named"),
        ({"image_id": 999}, "no image with the id 999", "image_named"),
        ({"computer_id": 999}, "no computer with the id 999", "computer_named"),
        ({"user_id": None}, "no user with the id NULL", "user_named"),
        ({"state": "nwe"}, 'there is no state "nwe"', "to end a request"),
        ({"machines": 0}, "1 to 100 machines, not for 0", "leave machines out"),
        ({"machines": 2, "computer_id": 1}, "one computer is wished for, and 2 machines", "leave computer_id out"),
        ({"remote_address": "192.0.2.0/24"}, "192.0.2.0/24 is a network", "without a prefix"),
        ({"end_time": "infinity"}, "would last from .* to infinity", "give moments"),
    ],
)
def test_what_cannot_be_is_refused(
    conn: Connection, lab: Lab, columns: dict[str, object], said: str, hint: str
) -> None:
    with pytest.raises(psycopg.Error, match=said) as caught:
        a_request(conn, lab, **columns)
    assert hint in (caught.value.diag.message_hint or "")
    assert one(conn, "SELECT count(*) FROM request") == (0,)
    assert one(conn, "SELECT count(*) FROM reservation") == (0,)


def test_an_image_without_production_revision_is_refused(conn: Connection, lab: Lab) -> None:
    conn.execute("UPDATE image_revision SET production = false")
    with pytest.raises(psycopg.errors.CheckViolation, match="no production revision"):
        a_request(conn, lab)


def test_an_image_no_computer_can_run_is_refused_with_what_it_needs(conn: Connection, lab: Lab) -> None:
    image_id, _ = an_image(conn, "huge", min_ram_mb=999_999)
    with pytest.raises(psycopg.errors.CheckViolation, match='no computer of this lab can run image "huge"') as caught:
        a_request(conn, lab, image_id=image_id)
    assert "999999 MiB" in (caught.value.diag.message_hint or "")


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ("UPDATE image SET min_ram_mb = 4096", "1024 MiB of memory, the image needs 4096"),
        ("UPDATE image SET min_cpus = 8", "1 CPUs, the image needs 8"),
        ("UPDATE image SET install_type = 'vmdk'", "sim loads no vmdk images"),
    ],
)
def test_a_wished_computer_that_cannot_run_the_image_is_refused_with_the_reason(
    conn: Connection, lab: Lab, change: str, because: str
) -> None:
    conn.execute(change.encode())
    with pytest.raises(psycopg.errors.CheckViolation, match='computer "vcl-1" cannot run image') as caught:
        a_request(conn, lab, computer_id=lab.computers[0])
    assert because in str(caught.value)
    assert "leave computer_id out" in (caught.value.diag.message_hint or "")


def test_a_wished_computer_that_is_taken_is_refused_with_who_has_it_until_when(conn: Connection, lab: Lab) -> None:
    first = a_request(conn, lab, computer_id=lab.computers[0])
    with pytest.raises(
        psycopg.errors.ExclusionViolation, match=f'computer "vcl-1" is taken: request {first} has it'
    ) as caught:
        a_request(conn, lab, computer_id=lab.computers[0])
    assert "another time" in (caught.value.diag.message_hint or "")
    assert one(conn, "SELECT count(*) FROM request") == (1,)


def test_one_after_the_other_may_have_the_same_computer(conn: Connection, lab: Lab) -> None:
    one_hour = {"start_time": sql.SQL("'2100-01-01 10:00Z'"), "end_time": sql.SQL("'2100-01-01 11:00Z'")}
    next_hour = {"start_time": sql.SQL("'2100-01-01 11:00Z'"), "end_time": sql.SQL("'2100-01-01 12:00Z'")}
    a_request(conn, lab, computer_id=lab.computers[0], **one_hour)
    a_request(conn, lab, computer_id=lab.computers[0], **next_hour)
    assert one(conn, "SELECT count(*) FROM reservation") == (2,)


def test_acknowledging_is_setting_the_address_and_its_time_is_kept(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab)
    conn.execute("UPDATE request SET remote_address = '192.0.2.7' WHERE id = %s", [made])
    when, address = one(conn, "SELECT acknowledged_at, host(remote_address) FROM request")
    assert (when is not None, address) == (True, "192.0.2.7")
    conn.execute("UPDATE request SET remote_address = '2001:db8::7' WHERE id = %s", [made])
    assert one(conn, "SELECT acknowledged_at, host(remote_address) FROM request") == (when, "2001:db8::7")


def test_acknowledging_with_the_insert_counts_as_well(conn: Connection, lab: Lab) -> None:
    a_request(conn, lab, remote_address="192.0.2.7")
    assert one(conn, "SELECT acknowledged_at IS NOT NULL FROM request") == (True,)


def test_extending_moves_the_reservation_along(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab, computer_id=lab.computers[0])
    conn.execute("UPDATE request SET end_time = end_time + interval '1 hour' WHERE id = %s", [made])
    assert one(
        conn, "SELECT upper(r.during) = q.end_time FROM reservation r JOIN request q ON q.id = r.request_id"
    ) == (True,)


def test_an_extension_into_the_next_ones_time_is_refused_with_how_long_it_can_last(conn: Connection, lab: Lab) -> None:
    first = a_request(conn, lab, computer_id=lab.computers[0], end_time=sql.SQL("now() + interval '1 hour'"))
    second = a_request(
        conn,
        lab,
        computer_id=lab.computers[0],
        start_time=sql.SQL("date_trunc('hour', now()) + interval '3 hours'"),
        end_time=sql.SQL("now() + interval '9 hours'"),
    )
    said, hint = refused(conn, "UPDATE request SET end_time = end_time + interval '3 hours' WHERE id = %s", first)
    assert f"cannot last until .* reserved by request {second}".split(" .* ")[0] in said
    assert f"reserved by request {second}" in said
    assert "it can last until" in hint
    before = one(conn, "SELECT end_time - start_time FROM request WHERE id = %s", first)[0]
    assert before < timedelta(hours=2)


def test_an_end_before_the_start_is_refused(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab)
    said, hint = refused(conn, "UPDATE request SET end_time = start_time - interval '1 hour' WHERE id = %s", made)
    assert "before it starts" in said
    assert "after start_time" in hint


def test_a_request_given_back_before_anything_was_done_is_over_and_its_computer_free(
    conn: Connection, lab: Lab
) -> None:
    made = a_request(conn, lab, computer_id=lab.computers[0])
    assert one(conn, "UPDATE request SET state = 'deleted' WHERE id = %s RETURNING state, last_state", made) == (
        "complete",
        "deleted",
    )
    assert one(conn, "SELECT released_at IS NOT NULL, due_at FROM reservation") == (True, None)
    assert one(conn, "SELECT ending, final_end IS NOT NULL FROM accounting_log") == ("deleted", True)
    a_request(conn, lab, computer_id=lab.computers[0])


def test_a_future_request_given_back_before_its_start_is_over(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab, start_time=sql.SQL("now() + interval '1 day'"), computer_id=lab.computers[0])
    conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [made])
    assert one(conn, "SELECT state FROM request") == ("complete",)
    assert claim_all(conn) == []


def test_a_request_that_is_over_can_not_be_changed_any_more(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab)
    conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [made])
    for change in (
        "state = 'deleted'",
        "end_time = end_time + interval '1 hour'",
        "remote_address = '192.0.2.7'",
    ):
        said, _ = refused(conn, f"UPDATE request SET {change} WHERE id = %s", made)
        assert f"request {made}" in said


def test_no_state_may_be_skipped_even_by_the_daemon(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab)
    said, hint = refused(conn, "UPDATE request SET state = 'inuse' WHERE id = %s", made)
    assert 'is "new": it cannot become "inuse"' in said
    assert "lifecycle_edge" in hint


def test_the_status_tells_a_line_for_each_request(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab)
    assert one(conn, 'SELECT "user", image, computer, state, doing FROM request_status WHERE id = %s', made) == (
        "alice",
        "debian12",
        None,
        "new",
        "waiting for a computer",
    )
    allocated(conn, made, lab.computers[2])
    assert one(conn, "SELECT computer, address FROM request_status") == ("vcl-3", "10.20.0.12")


def test_the_labs_clock_can_be_replaced(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab, start_time=sql.SQL("'2100-01-01 10:00Z'"), computer_id=lab.computers[0])
    assert claim_all(conn) == []
    conn.execute(
        "CREATE OR REPLACE FUNCTION vcl.now() RETURNS timestamptz LANGUAGE sql STABLE "
        "RETURN timestamptz '2100-01-01 10:00Z'"
    )
    assert [claim.request_id for claim in claim_all(conn)] == [made]
    a_request(conn, lab)
    assert one(
        conn, "SELECT max(start_time) = '2100-01-01 10:00Z', max(created_at) = max(start_time) FROM request"
    ) == (
        True,
        True,
    )


def test_a_second_lab_in_one_database_cannot_be(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("INSERT INTO lab DEFAULT VALUES")


def test_one_revision_of_an_image_is_in_production(conn: Connection, lab: Lab) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation, match="one_production_revision_per_image"):
        conn.execute(
            "INSERT INTO image_revision (image_id, revision, name, production) VALUES (%s, 1, 'debian12-v1', true)",
            [lab.image_id],
        )


@pytest.mark.parametrize("credentials", ["hunter2", "file:", "env:", "env:A B", "password=x"])
def test_credentials_are_named_never_kept(conn: Connection, lab: Lab, credentials: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="credentials_are_named_not_kept"):
        conn.execute("UPDATE vm_profile SET credentials = %s", [credentials])
