"""What each role may do, tried by being it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psycopg
import pytest
from a_lab import Lab, a_lab, a_request, allocated, claim_all
from psycopg import sql

from vcl_provision.store.database import Connection

SECRETS = ("reservation_password", "journal", "effect", "vm_profile", "user_key")


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


@contextmanager
def being(conn: Connection, role: str) -> Generator[None]:
    conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    try:
        yield
    finally:
        conn.execute("RESET ROLE")


def may_not(conn: Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.encode())


def tables(conn: Connection) -> list[str]:
    rows = conn.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'vcl'::regnamespace AND relkind = 'r'"
    ).fetchall()
    return [row[0] for row in rows]


def test_a_front_end_makes_follows_acknowledges_extends_and_ends_a_request(conn: Connection, lab: Lab) -> None:
    with being(conn, "vcl_frontend"):
        made = conn.execute(
            "INSERT INTO request (user_id, image_id) VALUES (user_named('alice'), image_named('debian12')) RETURNING id"
        ).fetchall()[0][0]
        assert conn.execute("SELECT state, doing FROM request_status WHERE id = %s", [made]).fetchall() == [
            ("new", "waiting for a computer")
        ]
        conn.execute("UPDATE request SET remote_address = '192.0.2.7' WHERE id = %s", [made])
        conn.execute("UPDATE request SET end_time = end_time + interval '1 hour' WHERE id = %s", [made])
        conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [made])
    assert conn.execute("SELECT state, acknowledged_at IS NOT NULL FROM request").fetchall() == [("complete", True)]


def test_a_front_end_ends_a_request_that_is_being_worked_on(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab)
    allocated(conn, made, lab.computers[0])
    claim_all(conn)
    conn.execute("UPDATE reservation SET occupies = true")
    with being(conn, "vcl_frontend"):
        conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [made])
    assert conn.execute("SELECT state FROM request").fetchall() == [("deleted",)]


@pytest.mark.parametrize("state", ["reserved", "failed", "complete", "timeout", "reclaim"])
def test_a_front_end_moves_a_request_to_no_other_state(conn: Connection, lab: Lab, state: str) -> None:
    a_request(conn, lab)
    with (
        being(conn, "vcl_frontend"),
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="only vcld moves a request") as caught,
    ):
        conn.execute("UPDATE request SET state = %s", [state])
    assert "set state to deleted" in (caught.value.diag.message_hint or "")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM request",
        "UPDATE request SET user_id = 1",
        "UPDATE request SET computer_id = 1",
        "UPDATE request SET fault_said = 'x'",
        "UPDATE request SET start_time = now()",
        "INSERT INTO request (user_id, image_id, state) VALUES (1, 1, 'reload')",
        "INSERT INTO request (user_id, image_id, acknowledged_at) VALUES (1, 1, now())",
        "UPDATE reservation SET computer_id = 1",
        "UPDATE computer SET state = 'available'",
        "INSERT INTO vcl_user (name, affiliation_id) VALUES ('mallory', 1)",
        "INSERT INTO user_key (user_id, line) VALUES (1, 'x')",
        "UPDATE lifecycle_edge SET target = 'complete'",
        "SELECT remote_address FROM request",
        "SELECT request_was_made()",
        "CREATE TABLE vcl.mine (id int)",
        "CREATE OR REPLACE FUNCTION vcl.now() RETURNS timestamptz LANGUAGE sql RETURN timestamptz '2000-01-01'",
    ],
)
def test_a_front_end_may_do_nothing_else(conn: Connection, lab: Lab, statement: str) -> None:
    a_request(conn, lab)
    with being(conn, "vcl_frontend"):
        may_not(conn, statement)


def test_a_front_end_reads_nothing_but_the_status(conn: Connection, lab: Lab) -> None:
    readable = {"request", "lifecycle_edge"}
    with being(conn, "vcl_frontend"):
        for table in set(tables(conn)) - readable:
            may_not(conn, f"SELECT * FROM {table}")
        may_not(conn, "SELECT * FROM request")


def test_a_front_end_cannot_make_a_function_run_as_the_owner_find_its_own_tables(conn: Connection, lab: Lab) -> None:
    """The functions that run as the owner have a search_path of their own, in which a temporary table comes last."""
    with being(conn, "vcl_frontend"):
        conn.execute("CREATE TEMPORARY TABLE vcl_user (id bigint, name text, affiliation_id bigint)")
        conn.execute("INSERT INTO pg_temp.vcl_user VALUES (1, 'mallory', 1)")
        with pytest.raises(psycopg.Error, match='no user named "mallory"'):
            conn.execute("SELECT vcl.user_named('mallory')")


def test_the_reader_reads_and_sees_no_secret(conn: Connection, lab: Lab) -> None:
    a_request(conn, lab)
    with being(conn, "vcl_reader"):
        for table in (
            "request",
            "reservation",
            "computer",
            "image",
            "vcl_user",
            "accounting_log",
            "load_log",
            "request_status",
        ):
            conn.execute(f"SELECT * FROM {table}".encode())
        for table in SECRETS:
            may_not(conn, f"SELECT * FROM {table}")


@pytest.mark.parametrize("verb", ["INSERT INTO {} DEFAULT VALUES", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_reader_writes_nothing(conn: Connection, lab: Lab, verb: str) -> None:
    names = tables(conn)
    with being(conn, "vcl_reader"):
        for table in names:
            may_not(conn, verb.format(table))


def test_the_reader_cannot_end_a_request(conn: Connection, lab: Lab) -> None:
    a_request(conn, lab)
    with being(conn, "vcl_reader"):
        may_not(conn, "UPDATE request SET state = 'deleted'")


def test_the_daemon_works_and_does_not_change_the_schema(conn: Connection, lab: Lab) -> None:
    with being(conn, "vcl_daemon"):
        made = a_request(conn, lab)
        allocated(conn, made, lab.computers[0])
        assert [claim.request_id for claim in claim_all(conn)] == [made]
        conn.execute("UPDATE request SET state = 'reserved' WHERE id = %s", [made])
        may_not(conn, "DROP TABLE request")
        may_not(conn, "ALTER TABLE request ADD COLUMN x int")
        may_not(
            conn,
            "CREATE OR REPLACE FUNCTION vcl.now() RETURNS timestamptz LANGUAGE sql RETURN timestamptz '2000-01-01'",
        )


@pytest.mark.parametrize("role", ["vcl_daemon", "vcl_frontend", "vcl_reader"])
def test_the_roles_carry_rights_and_nobody_logs_in_as_one(conn: Connection, role: str) -> None:
    row = conn.execute(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = %s", [role]
    ).fetchall()
    assert row == [(False, False, False, False)]


def test_a_login_that_has_the_role_has_its_rights(dsn: str, conn: Connection, lab: Lab) -> None:
    """As a site does it: a login of its own, granted the role."""
    name = f"portal_{conn.info.dbname}"
    conn.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE vcl_frontend").format(sql.Identifier(name)))
    try:
        with psycopg.connect(dsn, user=name, autocommit=True) as portal:
            portal.execute(
                "INSERT INTO request (user_id, image_id) VALUES (user_named('alice'), image_named('debian12'))"
            )
            may_not(portal, "SELECT * FROM journal")
    finally:
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
