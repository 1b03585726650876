"""Brings a database to the schema that this version works with: numbered migrations, one process at a time.

`schema.sql` is what people read and change; a migration is what a database that is in use gets. Migration 1 is
schema.sql as first released, the later ones lead from there to the present one: a test proves it. They never change.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from vcl_provision.model.faults import Refused, TimedOut
from vcl_provision.store.database import Connection

FOLDER = Path(__file__).with_name("migrations")
OLDEST = 14
"""The first PostgreSQL that has all that schema.sql uses."""
PATIENCE = 300
"""Seconds to wait for another process that migrates the same database."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One step: file `0002_what_it_does.sql`."""

    number: int
    name: str
    text: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


def known(folder: Path = FOLDER) -> list[Migration]:
    """Those that come with this version, in order."""
    found = [path for path in folder.glob("*.sql") if path.stem.partition("_")[0].isdigit()]
    migrations = [
        Migration(number=int(path.stem.partition("_")[0]), name=path.stem.partition("_")[2], text=path.read_bytes())
        for path in found
    ]
    return sorted(migrations, key=lambda migration: migration.number)


def migrate(conn: Connection, migrations: Sequence[Migration] | None = None) -> list[Migration]:
    """Applies what is missing, each migration whole or not at all, and returns it; an empty database gets them all.

    Two who migrate at once do it one after the other. `conn` is in autocommit, as who owns the database.
    Raises Refused for a database that is newer, not ours or too old a PostgreSQL; TimedOut waiting for another process.
    """
    migrations = known() if migrations is None else migrations
    if conn.info.server_version < OLDEST * 10_000:
        raise Refused(f"PostgreSQL {conn.info.server_version // 10_000} is too old", f"{OLDEST} or newer is needed")
    with _alone(conn):
        missing = _missing(conn, migrations)
        for migration in missing:
            _apply(conn, migration)
    return missing


def require_current(conn: Connection, migrations: Sequence[Migration] | None = None) -> None:
    """Raises Refused if the database is not at the schema of this version."""
    missing = _missing(conn, known() if migrations is None else migrations)
    if missing:
        raise Refused(
            f"database {conn.info.dbname!r} lacks migration {', '.join(str(migration) for migration in missing)}",
            "run: vcl db migrate",
        )


def _missing(conn: Connection, migrations: Sequence[Migration]) -> list[Migration]:
    applied = _applied(conn)
    newest = max((migration.number for migration in migrations), default=0)
    if max(applied, default=0) > newest:
        raise Refused(
            f"database {conn.info.dbname!r} is at migration {max(applied)}, this version knows {newest}",
            "it was migrated by a newer version: upgrade this one",
        )
    for migration in migrations:
        if (applied.get(migration.number) or migration.sha256) != migration.sha256:
            raise Refused(
                f"database {conn.info.dbname!r} was made with another text of migration {migration}",
                "it was made by an unreleased version: begin with a new database, or bring it up by hand",
            )
    return [migration for migration in migrations if migration.number not in applied]


def _applied(conn: Connection) -> dict[int, str | None]:
    """The numbers of the migrations that the database has, and the sum of what was run for each if it was run by us."""
    ours, ledger = conn.execute("SELECT to_regnamespace('vcl'), to_regclass('vcl.schema_migration')").fetchall()[0]
    if ours is None:
        return {}
    if ledger is None:
        raise Refused(
            f"database {conn.info.dbname!r} has a schema 'vcl' that is not ours: it has no table schema_migration",
            "give VCL_DSN another database",
        )
    return dict(conn.execute("SELECT number, sha256 FROM vcl.schema_migration").fetchall())


def _apply(conn: Connection, migration: Migration) -> None:
    """schema.sql enters itself in the ledger, so that a database made from it by hand is known too."""
    try:
        with conn.transaction():
            conn.execute(migration.text)
            conn.execute(
                """
                INSERT INTO vcl.schema_migration (number, name, sha256) VALUES (%s, %s, %s)
                ON CONFLICT (number) DO UPDATE SET sha256 = excluded.sha256
                """,
                [migration.number, migration.name, migration.sha256],
            )
    except psycopg.OperationalError:
        raise
    except psycopg.Error as no:
        said = no.diag.message_primary or str(no)
        hint = "nothing of it was kept; a database is migrated as the role that owns it"
        raise Refused(f"migration {migration} does not apply to database {conn.info.dbname!r}: {said}", hint) from no


@contextlib.contextmanager
def _alone(conn: Connection) -> Generator[None]:
    try:
        with conn.transaction():
            conn.execute("SELECT set_config('lock_timeout', %s, true)", [f"{PATIENCE}s"])
            conn.execute("SELECT pg_advisory_lock(hashtextextended('vcl migrations', 0))")
    except psycopg.errors.LockNotAvailable as late:
        raise TimedOut(
            f"another process has been migrating database {conn.info.dbname!r} for {PATIENCE} s",
            "see pg_stat_activity",
        ) from late
    try:
        yield
    finally:
        conn.execute("SELECT pg_advisory_unlock(hashtextextended('vcl migrations', 0))")
