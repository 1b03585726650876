"""The hypervisor in a table: one SQLite file that outlives whoever uses it.

Many processes may use it at once; in a process, all threads share one connection under a lock, which is faster than
SQLite's own way of waiting for a writer. Everything that changes is noted in `history` in the same transaction.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS image (      -- host '' is the repository
    host TEXT, name TEXT, owner TEXT, size INTEGER, whole INTEGER, PRIMARY KEY (host, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS disk (
    host TEXT, name TEXT, owner TEXT, instance TEXT, image TEXT, PRIMARY KEY (host, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS machine (    -- the guest answers from boots_at on; never, if that is NULL
    instance TEXT PRIMARY KEY, host TEXT, name TEXT, owner TEXT, image TEXT, revision_id INTEGER, power TEXT,
    host_key TEXT, address TEXT, mac TEXT, ram_mb INTEGER, cpus INTEGER, hostname TEXT, started_at REAL, boots_at REAL,
    prepared INTEGER DEFAULT 0, UNIQUE (host, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS account (
    instance TEXT REFERENCES machine ON DELETE CASCADE, user TEXT, facts TEXT,
    PRIMARY KEY (instance, user)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS access (     -- who may come from where; comes_at, leaves_at: when they do by themselves
    instance TEXT REFERENCES machine ON DELETE CASCADE, user TEXT, address TEXT, granted_at REAL,
    comes_at REAL, leaves_at REAL, PRIMARY KEY (instance, user)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS login (
    instance TEXT REFERENCES machine ON DELETE CASCADE, user TEXT, address TEXT, since REAL,
    PRIMARY KEY (instance, user, address)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file (
    instance TEXT REFERENCES machine ON DELETE CASCADE, path TEXT, content BLOB, mode INTEGER,
    PRIMARY KEY (instance, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fault (      -- a script: pass over `skip` matching calls, then strike `times` (0: always)
    id INTEGER PRIMARY KEY, call TEXT NOT NULL, kind TEXT NOT NULL, error TEXT DEFAULT 'failed',
    seconds REAL DEFAULT 0, host TEXT DEFAULT '*', computer TEXT DEFAULT '*', skip INTEGER DEFAULT 0,
    times INTEGER DEFAULT 1, fired INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY, at REAL, what TEXT, host TEXT, computer TEXT, instance TEXT, owner TEXT, user TEXT,
    detail TEXT);
"""

Row = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One line of the history: at `at`, `what` happened to `computer` (its load `instance`), by whom, for whom."""

    at: float
    what: str
    host: str
    computer: str
    instance: str
    owner: str
    user: str
    detail: str


class World:
    """One file. `clock` says the time of day in seconds; a simulation hands in its own."""

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.time, seed: int | None = None) -> None:
        self.file = file
        self.clock = clock
        self.random = Random(seed)  # noqa: S311 - delays, not secrets
        self._lock = threading.RLock()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")  # outlives a killed process, which is all that is asked
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def ask(self, question: str, *values: object) -> list[Row]:
        """The answer to one question, as rows."""
        with self._lock:
            return self._connection.execute(question, values).fetchall()

    def first(self, question: str, *values: object) -> Row | None:
        """The first row of the answer, None if there is none."""
        with self._lock:
            return self._connection.execute(question, values).fetchone()

    @contextmanager
    def change(self) -> Generator[Change]:
        """One transaction: all of it or, if an exception leaves it, nothing."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Change(self._connection, self.clock())
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def look(self) -> Generator[Change]:
        """A few questions about one moment; nothing is to be changed in it."""
        with self._lock:
            yield Change(self._connection, self.clock())

    def facts(self, computer: str | None = None) -> list[Fact]:
        """The history, oldest first."""
        rows = self.ask(
            "SELECT at, what, host, computer, instance, owner, user, detail FROM history"
            " WHERE computer = coalesce(?, computer) ORDER BY id",
            computer,
        )
        names = ("at", "what", "host", "computer", "instance", "owner", "user", "detail")
        return [Fact(**dict(zip(names, row, strict=True))) for row in rows]

    def clear(self) -> None:
        """Removes all but the images."""
        with self.change() as change:
            for statement in ("DELETE FROM machine", "DELETE FROM disk", "DELETE FROM fault", "DELETE FROM history"):
                change.do(statement)


class Change:
    """The inside of a transaction; `now` is its one moment."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self._connection = connection
        self.now = now

    def do(self, statement: str, *values: object) -> int:
        """Number of rows that it touched."""
        return self._connection.execute(statement, values).rowcount

    def ask(self, question: str, *values: object) -> list[Row]:
        return self._connection.execute(question, values).fetchall()

    def first(self, question: str, *values: object) -> Row | None:
        return self._connection.execute(question, values).fetchone()

    def note(
        self, what: str, *, host: str, computer: str, instance: str, owner: str, user: str = "", **detail: object
    ) -> None:
        """A line of the history."""
        values: Sequence[object] = (
            self.now,
            what,
            host,
            computer,
            instance,
            owner,
            user,
            json.dumps(detail) if detail else "",
        )
        self._connection.execute(
            "INSERT INTO history (at, what, host, computer, instance, owner, user, detail)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
