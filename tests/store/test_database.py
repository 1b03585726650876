"""The way to the database: what breaks is replaced, what is away is said so, nothing half is left."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg
import pytest
import structlog
from a_lab import a_lab
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon import parts
from vcl_provision.daemon.settings import DatabaseSettings, Settings
from vcl_provision.model.faults import Refused, TimedOut
from vcl_provision.store import nodes
from vcl_provision.store.database import Connection, Database, DatabaseAway, listen, require_reachable
from vcl_provision.store.locks import LabLocks
from vcl_provision.store.timestamps import BEGIN, END


def count_users(conn: Connection) -> int:
    return conn.execute("SELECT count(*) FROM vcl_user").fetchall()[0][0]


def add_user(conn: Connection, name: str) -> None:
    conn.execute("INSERT INTO vcl_user (name, affiliation_id) SELECT %s, id FROM affiliation", [name])


def add_user_and_break(conn: Connection) -> None:
    add_user(conn, "alice")
    raise ZeroDivisionError


def kill_connections(conn: Connection) -> None:
    conn.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


def test_a_session_stands_statement_by_statement(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.session() as conn:
        add_user_and_break(conn)
    with database.session() as conn:
        assert count_users(conn) == 1


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as conn:
        add_user_and_break(conn)
    with database.session() as conn:
        assert count_users(conn) == 0


def test_names_without_schema_are_the_labs(database: Database) -> None:
    with database.session() as conn:
        assert conn.execute("SELECT current_schema()").fetchall() == [("vcl",)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-11-28 07:30:15.08+00", datetime(2026, 11, 28, 7, 30, 15, 80_000, UTC)),
        ("2026-11-28 07:30:15+05:30", datetime(2026, 11, 28, 2, 0, 15, tzinfo=UTC)),
        ("infinity", END),
        ("116106-05-14 23:32:08.624117+00", END),
        ("-infinity", BEGIN),
        ("0044-03-15 12:00:00+00 BC", BEGIN),
    ],
)
def test_moments_of_any_year_can_be_read(dsn: str, database: Database, written: str, read: datetime) -> None:
    for session in (database.session(), listen(dsn).connection):
        with session as conn:
            assert conn.execute("SELECT %s::text::timestamptz", [written]).fetchall() == [(read,)]
            conn.execute("SET TimeZone = 'Pacific/Kiritimati'")
            assert conn.execute("SELECT %s::text::timestamptz", [written]).fetchall() == [(read,)]
    assert read.astimezone()


def test_broken_connections_are_replaced(database: Database, conn: Connection) -> None:
    with database.session() as inside:
        add_user(inside, "alice")
    kill_connections(conn)

    def asked() -> int | None:
        try:
            with database.session() as inside:
                return count_users(inside)
        except DatabaseAway:
            return None

    assert Patience(30).until(asked, "the pool to recover") == 1


def test_a_connection_that_breaks_in_a_transaction_leaves_nothing(database: Database, conn: Connection) -> None:
    def add_two(inside: Connection) -> None:
        add_user(inside, "alice")
        kill_connections(conn)
        add_user(inside, "bob")

    with pytest.raises(DatabaseAway), database.transaction() as inside:
        add_two(inside)
    assert count_users(conn) == 0


@pytest.mark.parametrize("dsn", ["host=/nowhere dbname=vcl", "host=/nowhere,/elsewhere dbname=vcl", "nonsense=1"])
def test_a_database_that_is_not_there_is_away_in_one_line(dsn: str) -> None:
    wrong = Database(dsn, patience=0.5)
    with pytest.raises(DatabaseAway) as caught, wrong.session():
        pass
    assert "\n" not in str(caught.value)
    wrong.close()


def test_who_waits_for_a_database_hears_why_it_does_not_answer(
    caplog: pytest.LogCaptureFixture, database: Database
) -> None:
    require_reachable(database.dsn)
    with pytest.raises(DatabaseAway, match="No such file or directory"):
        require_reachable("host=/nowhere dbname=vcl", seconds=0)
    assert not caplog.records


def test_a_daemon_without_its_database_says_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parts, "require_reachable", partial(require_reachable, seconds=0))
    settings = Settings(database=DatabaseSettings(dsn="host=/nowhere dbname=vcl"))
    with structlog.testing.capture_logs() as logs, pytest.raises(DatabaseAway, match="No such file or directory"):
        parts.build(settings)
    assert [line["event"] for line in logs] == ["database.awaited"]
    assert not caplog.records


@pytest.mark.parametrize("dsn", ["garbage", "nonsense=1", "postgresql://[nowhere"])
def test_what_is_no_dsn_is_refused_at_once(dsn: str) -> None:
    with pytest.raises(Refused, match="this is no DSN") as caught:
        require_reachable(dsn)
    assert caught.value.hint


def test_of_several_hosts_the_one_that_answers_is_taken(dsn: str, tmp_path: Path) -> None:
    known = conninfo_to_dict(dsn)
    several = make_conninfo(dsn, host=f"{tmp_path},{known['host']}", port=f"5432,{known.get('port', 5432)}")
    both = Database(several)
    with both.session() as conn:
        assert count_users(conn) == 0
    both.close()


def test_statements_and_connections_are_counted(database: Database) -> None:
    with database.session() as conn:
        before = database.counts.statements
        count_users(conn)
        count_users(conn)
        assert database.counts.statements - before == 2
    assert 1 <= database.counts.connections <= database.max_size


def test_a_listener_hears_what_is_said_and_waits_no_longer_than_asked(database: Database) -> None:
    listener = database.listener(["vcl_due"])
    with database.session() as conn:
        conn.execute("SELECT pg_notify('vcl_due', 'now'), pg_notify('vcl_other', 'no')")
    assert [(one.channel, one.payload) for one in listener.heard(30)] == [("vcl_due", "now")]
    assert listener.heard(0.01) == []
    listener.close()


def test_a_listener_whose_connection_broke_says_so(database: Database, conn: Connection) -> None:
    listener = database.listener(["vcl_due"])
    kill_connections(conn)
    with pytest.raises(DatabaseAway):
        listener.heard(30)
    listener.close()


# Names and locks that go with the connection


def test_one_daemon_at_a_time_has_a_nodes_name(database: Database) -> None:
    first, second = database.listener([]), database.listener([])
    assert nodes.hold_name(first.connection, "node-1")
    assert not nodes.hold_name(second.connection, "node-1")
    assert nodes.hold_name(second.connection, "node-2")
    first.close()

    def free() -> bool:
        return nodes.hold_name(second.connection, "node-1")

    assert Patience(10).until(free, "the name to be free")
    second.close()


def test_a_name_is_taken_back_from_a_connection_of_ours_that_only_the_server_believes_in(database: Database) -> None:
    lost, found = database.listener([]), database.listener([])
    assert nodes.hold_name(lost.connection, "node-1")
    assert not nodes.hold_name(found.connection, "node-1", instead_of=found.connection.info.backend_pid)
    assert nodes.hold_name(found.connection, "node-1", instead_of=lost.connection.info.backend_pid)
    lost.close()
    found.close()


def test_what_ends_is_only_the_connection_that_has_the_name(database: Database) -> None:
    other, found = database.listener([]), database.listener([])
    assert nodes.hold_name(other.connection, "node-2")
    assert nodes.hold_name(found.connection, "node-1", instead_of=other.connection.info.backend_pid)
    assert not nodes.hold_name(found.connection, "node-2")
    other.close()
    found.close()


@pytest.mark.parametrize("name", ["'; DROP TABLE lab; --", "é" * 300, "$(id)"])
def test_a_node_may_have_any_name(database: Database, name: str) -> None:
    with database.session() as conn:
        first = nodes.register_node(conn, name)
        assert nodes.register_node(conn, name) == first
        nodes.check_in(conn, first)
        assert conn.execute("SELECT name, last_check_in >= started_at FROM management_node").fetchall() == [
            (name, True)
        ]


def test_a_node_without_a_name_is_refused(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        nodes.register_node(conn, "")


def count_locks(conn: Connection) -> tuple[int, int]:
    """Named locks that are held, and by how many connections."""
    return conn.execute(
        "SELECT count(*), count(DISTINCT l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()"
    ).fetchall()[0]


def test_a_lock_is_held_by_one_and_free_when_left(database: Database) -> None:
    nodes_locks = LabLocks(database=database), LabLocks(database=database)
    inside: list[int] = []
    most: list[int] = []
    together = threading.Barrier(4)

    def work(locks: LabLocks) -> None:
        together.wait()
        with locks.hold("image debian12 on host-1", patience=Patience(60)):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)  # long enough for another one to come in, were it let in
            inside.pop()

    threads = [threading.Thread(target=work, args=[locks]) for locks in nodes_locks for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


@pytest.mark.parametrize("here", [True, False], ids=["on-this-node", "on-another-node"])
def test_a_lock_that_stays_taken_is_not_waited_for_for_ever(database: Database, *, here: bool) -> None:
    locks = LabLocks(database=database)
    other = locks if here else LabLocks(database=database)
    with (
        locks.hold("one", patience=Patience(5)),
        pytest.raises(TimedOut, match="'one'"),
        other.hold("one", patience=Patience(0.3)),
    ):
        pass


def test_a_lock_whose_connection_breaks_does_not_disturb_its_holder(database: Database, conn: Connection) -> None:
    locks = LabLocks(database=database)
    with locks.hold("one", patience=Patience(5)):
        kill_connections(conn)
        with locks.hold("two", patience=Patience(30)):
            assert count_locks(conn) == (1, 1)
    with locks.hold("one", patience=Patience(30)):
        pass


def test_locks_in_hand_share_one_connection_and_leave_the_pool_alone(dsn: str, conn: Connection) -> None:
    database = Database(dsn, max_size=2)
    locks = LabLocks(database=database)
    with contextlib.ExitStack() as held:
        for name in ("one", "two", "three", "four"):
            held.enter_context(locks.hold(name, patience=Patience(5)))
        assert count_locks(conn) == (4, 1)
        with database.session() as one, database.session() as another:
            assert count_users(one) == count_users(another) == 0
    Patience(10).until(lambda: count_locks(conn) == (0, 0), "all to be given back")
    database.close()


@pytest.mark.parametrize("here", [True, False], ids=["on-this-node", "on-another-node"])
def test_a_lock_is_held_together_or_alone(database: Database, *, here: bool) -> None:
    one = LabLocks(database=database)
    other = one if here else LabLocks(database=database)
    with (
        one.together("masters", patience=Patience(5)),
        other.together("masters", patience=Patience(5)),
        pytest.raises(TimedOut),
        other.hold("masters", patience=Patience(0.3)),
    ):
        pass
    with one.hold("masters", patience=Patience(5)):
        for locks in (one, other):
            with pytest.raises(TimedOut), locks.together("masters", patience=Patience(0.3)):
                pass
    with one.together("masters", patience=Patience(5)):
        pass


def hang(hung: Connection, other: Connection) -> None:
    """Does nothing for too long, in a transaction."""
    assert hung.execute("SHOW idle_in_transaction_session_timeout").fetchall() == [("10s",)]
    hung.execute("SET idle_in_transaction_session_timeout = '20ms'")
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"
    process = hung.info.backend_pid
    Patience(10).until(lambda: other.execute(gone, [process]).fetchall()[0][0], "the server to end it")
    count_users(hung)


def test_whoever_hangs_in_a_transaction_lets_go_of_what_they_locked(database: Database, conn: Connection) -> None:
    with pytest.raises(DatabaseAway), database.transaction() as hung:
        hang(hung, conn)
    with database.session() as next_one:
        assert count_users(next_one) == 0


def test_two_locks_of_different_names_do_not_meet(database: Database) -> None:
    one, two = LabLocks(database=database), LabLocks(database=database)
    with one.hold("one", patience=Patience(5)), two.hold("two", patience=Patience(5)):
        pass


def test_the_fixtures_give_each_test_a_database_of_its_own(new_database: Callable[[str], str], template: str) -> None:
    dsns = [new_database(template) for _ in range(2)]
    for dsn in dsns:
        with psycopg.connect(dsn, autocommit=True) as conn:
            assert count_users(conn) == 0
            a_lab(conn)
