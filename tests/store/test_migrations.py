"""A database that is in use comes to the same schema as one that is made anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from pathlib import Path

import psycopg
import pytest
from a_catalogue import catalogue

from vcl_provision.model.faults import Refused
from vcl_provision.store.database import Connection
from vcl_provision.store.migrate import FOLDER, Migration, known, migrate, require_current

NewDatabase = Callable[[str], str]


@pytest.fixture
def empty(new_database: NewDatabase) -> Generator[Connection]:
    """A connection to a database with nothing in it."""
    with psycopg.connect(new_database("template1"), autocommit=True) as conn:
        yield conn


def next_migration(text: str) -> Migration:
    last = known()[-1]
    return Migration(number=last.number + 1, name="one_more", text=text.encode())


def test_the_migrations_end_in_the_database_of_schema_sql(empty: Connection, conn: Connection) -> None:
    migrate(empty)
    hint = "add a migration; while nothing is released: cp schema.sql vcl_provision/store/migrations/0001_the_lab.sql"
    assert catalogue(empty) == catalogue(conn), hint


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE vcl.computer ADD COLUMN rack text",
        "ALTER TABLE vcl.computer ALTER COLUMN ram_mb SET DEFAULT 2048",
        "ALTER TABLE vcl.computer DROP CONSTRAINT a_virtual_machine_has_a_host",
        "DROP INDEX vcl.reservation_due",
        "ALTER TABLE vcl.request DISABLE TRIGGER request_is_made",
        "COMMENT ON TABLE vcl.lab IS 'mine'",
        "GRANT SELECT ON vcl.user_key TO vcl_frontend",
        "GRANT UPDATE (state) ON vcl.computer TO vcl_frontend",
        "CREATE OR REPLACE VIEW vcl.request_status AS SELECT * FROM vcl.request_status WHERE false",
        "UPDATE vcl.lifecycle_edge SET sentence = 'so it is' WHERE event = 'connected'",
        "ALTER DOMAIN vcl.ending DROP CONSTRAINT is_an_ending",
    ],
)
def test_the_comparison_sees_what_a_migration_may_forget(conn: Connection, change: str) -> None:
    before = catalogue(conn)
    conn.execute(change.encode())
    assert catalogue(conn) != before


def test_the_function_vcl_now_that_differs_is_seen(conn: Connection) -> None:
    before = catalogue(conn)
    conn.execute(
        "CREATE OR REPLACE FUNCTION vcl.now() RETURNS timestamptz LANGUAGE sql STABLE RETURN timestamptz '2000-01-01'"
    )
    assert catalogue(conn) != before


def test_migrations_are_numbered_without_gaps_and_shipped_with_the_package() -> None:
    assert [migration.number for migration in known()] == list(range(1, len(known()) + 1))
    assert all(path.parent == FOLDER for path in FOLDER.glob("*.sql"))


def test_migrating_what_is_current_does_nothing(empty: Connection) -> None:
    assert migrate(empty) == known()
    assert migrate(empty) == []
    require_current(empty)


def test_only_what_is_missing_is_applied(empty: Connection) -> None:
    migrate(empty)
    more = next_migration("ALTER TABLE vcl.computer ADD COLUMN rack text")
    assert migrate(empty, [*known(), more]) == [more]
    assert empty.execute("SELECT rack FROM computer").fetchall() == []


def test_a_database_made_from_schema_sql_by_hand_is_current(conn: Connection) -> None:
    require_current(conn)
    assert migrate(conn) == []


def test_a_migration_that_fails_leaves_nothing_and_is_named(empty: Connection) -> None:
    migrate(empty)
    broken = next_migration("ALTER TABLE vcl.computer ADD COLUMN rack text; SELECT 1/0")
    with pytest.raises(Refused, match=r"one_more does not apply .*division by zero"):
        migrate(empty, [*known(), broken])
    require_current(empty)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        empty.execute("SELECT rack FROM vcl.computer")


def test_of_two_who_migrate_at_once_one_works_and_the_other_waits(new_database: NewDatabase) -> None:
    dsn, done = new_database("template1"), list[list[Migration]]()
    together = threading.Barrier(2)

    def one() -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            together.wait()
            done.append(migrate(conn))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(applied) for applied in done) == [0, len(known())]


def test_nothing_is_left_locked(empty: Connection) -> None:
    migrate(empty)
    assert empty.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchall() == [(0,)]


def test_a_database_that_lacks_a_migration_says_which_and_what_to_run(conn: Connection) -> None:
    with pytest.raises(Refused, match=r"lacks migration .*one_more") as caught:
        require_current(conn, [*known(), next_migration("SELECT 1")])
    assert "vcl db migrate" in caught.value.hint


def test_an_empty_database_lacks_all(empty: Connection) -> None:
    with pytest.raises(Refused, match="lacks migration 0001"):
        require_current(empty)


def test_a_newer_database_is_refused_and_left_alone(empty: Connection) -> None:
    migrate(empty, [*known(), next_migration("SELECT 1")])
    with pytest.raises(Refused, match="this version knows") as caught:
        migrate(empty)
    assert "upgrade" in caught.value.hint


def test_somebody_elses_schema_of_the_same_name_is_refused(empty: Connection) -> None:
    empty.execute("CREATE SCHEMA vcl; CREATE TABLE vcl.accounts (id int)")
    with pytest.raises(Refused, match="not ours"):
        migrate(empty)
    assert empty.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'vcl'::regnamespace").fetchall() == [(1,)]


def test_the_one_disk_of_older_images_becomes_their_system(empty: Connection) -> None:
    migrate(empty, known()[:1])
    empty.execute(
        """
        INSERT INTO vcl.module VALUES ('os', 'linux');
        INSERT INTO vcl.os (name, module) VALUES ('Debian', 'linux');
        INSERT INTO vcl.image (name, os_id, install_type) SELECT 'debian12', id, 'qcow2' FROM vcl.os;
        INSERT INTO vcl.image_revision (image_id, revision, name) SELECT id, 1, 'debian12-v1' FROM vcl.image;
        INSERT INTO vcl.image_file (image_revision_id, role, name, format, bytes, sha256)
        SELECT id, role, role, 'raw', 1, repeat('a', 64)
          FROM vcl.image_revision, unnest('{disk,kernel}'::text[]) AS role
        """
    )
    assert [str(migration) for migration in migrate(empty, known()[:2])] == ["0002_images_of_several_disks"]
    assert empty.execute("SELECT role FROM vcl.image_file ORDER BY role").fetchall() == [("kernel",), ("system",)]


def test_a_migration_whose_text_changed_after_it_was_run_is_refused(empty: Connection) -> None:
    migrate(empty)
    other = Migration(number=1, name="the_lab", text=b"SELECT 1")
    with pytest.raises(Refused, match="another text of migration 0001_the_lab"):
        migrate(empty, [other, *known()[1:]])


def test_a_role_that_does_not_own_the_database_is_told_so(empty: Connection) -> None:
    empty.execute("SET ROLE vcl_frontend")
    with pytest.raises(Refused, match="permission denied") as caught:
        migrate(empty)
    assert "owns" in caught.value.hint


def test_what_is_no_migration_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "0002_b.sql").write_text("SELECT 2")
    (tmp_path / "0001_a.sql").write_text("SELECT 1")
    (tmp_path / "notes.sql").write_text("no")
    (tmp_path / "0003_c.txt").write_text("no")
    assert [str(migration) for migration in known(tmp_path)] == ["0001_a", "0002_b"]
