"""The way to the database: a pool, sessions, transactions, a connection that listens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo, sql
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from vcl_provision.model.faults import Refused
from vcl_provision.store.timestamps import read_moments

Connection = psycopg.Connection[TupleRow]

PATIENCE = 10.0
"""Seconds, long enough for a free connection in a rush."""

KEEPALIVE: dict[str, Any] = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""So that a connection whose server lost its power is noticed within half a minute; and at the other end, ours."""

SESSION: dict[str, str] = {
    "search_path": "vcl",
    "datestyle": "ISO",  # the one that moments are read in, whatever the server's own is
    "plan_cache_mode": "force_generic_plan",  # all our questions are by key: planning took longer than answering
    "idle_in_transaction_session_timeout": "10s",  # a node that hangs lets go of what it has locked
    **{f"tcp_{name}": str(value) for name, value in KEEPALIVE.items()},
}
"""What each of our sessions asks of the server."""

AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    PoolTimeout,
    PoolClosed,
)
"""What psycopg raises when the database does not answer, or has not waited for us."""


TRIES_AGAIN = 0.5
"""Seconds between two tries to reach a database."""
RECONNECT = 2.0
"""Seconds that the pool tries by itself to replace a connection; after that, whoever asks makes it try again at once,
where it would wait ever longer."""


class DatabaseAway(Exception):
    """The database does not answer, the connection broke, or a deadlock was ended at our cost: ask again."""


@dataclass
class Counts:
    """What was asked of the database, for benchmarks: statements executed, connections opened."""

    statements: int = 0
    connections: int = 0


@dataclass
class Database:
    """A pool of connections to `dsn`: a libpq string or URL, several hosts too; empty means libpq's PG* variables.

    Sessions are autocommit with `search_path` set. Connections that broke are replaced with back-off by the pool.
    Opening is lazy: a wrong DSN shows at the first question, as DatabaseAway. A question waits `patience` seconds for a
    connection before the database counts as away.
    """

    dsn: str
    max_size: int = 16
    counts: Counts = field(default_factory=Counts)
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        counts = self.counts

        class Counting(psycopg.Cursor[TupleRow]):
            def execute(self, *args: Any, **named: Any) -> Counting:
                counts.statements += 1
                super().execute(*args, **named)
                return self

        def prepare(conn: Connection) -> None:
            counts.connections += 1
            conn.cursor_factory = Counting
            read_moments(conn)

        self._pool = ConnectionPool[Connection](
            self.dsn,
            kwargs=_settings(),
            min_size=min(2, self.max_size),
            max_size=self.max_size,
            configure=prepare,
            open=False,
            reconnect_timeout=RECONNECT,
            name="store",
        )
        self._pool.open(wait=False)

    @contextlib.contextmanager
    def session(self) -> Generator[Connection]:
        """A connection in autocommit: each statement stands alone. Raises DatabaseAway."""
        try:
            with self._pool.connection(timeout=self.patience) as conn:
                yield conn
        except AWAY as away:
            raise DatabaseAway(_in_a_line(away)) from away

    @contextlib.contextmanager
    def transaction(self) -> Generator[Connection]:
        """A connection in a transaction: all of it or nothing. Raises DatabaseAway."""
        with self.session() as conn, conn.transaction():
            yield conn

    def listener(self, channels: Sequence[str]) -> Listener:
        """A connection of its own that hears these channels. Raises DatabaseAway."""
        return listen(self.dsn, channels)

    def close(self) -> None:
        self._pool.close(timeout=5)


def require_reachable(dsn: str, seconds: float = PATIENCE) -> None:
    """Waits so long for the database to take a connection; a pool would only say that it got none.

    Raises DatabaseAway with the reason.
    """
    ends = time.monotonic() + seconds
    while True:
        try:
            listen(dsn).close()
        except DatabaseAway:
            if time.monotonic() > ends:
                raise
            time.sleep(TRIES_AGAIN)
        else:
            return


def listen(dsn: str, channels: Sequence[str] = ()) -> Listener:
    """One connection, without a pool, that hears these channels and can be asked.

    Raises DatabaseAway, Refused for a DSN that is none.
    """
    _require_dsn(dsn)
    try:
        conn = psycopg.connect(dsn, **_settings())
        read_moments(conn)
        for channel in channels:
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    except psycopg.Error as away:
        raise DatabaseAway(_in_a_line(away)) from away
    return Listener(conn)


@dataclass(frozen=True)
class Heard:
    """A notification: its channel, its payload."""

    channel: str
    payload: str


@dataclass(frozen=True)
class Listener:
    """A connection that listens; it also holds session-level locks for as long as it lives."""

    connection: Connection

    def heard(self, seconds: float) -> list[Heard]:
        """What was said, all that has come by now; waits for the first so long at most. Raises DatabaseAway."""
        try:
            return [
                Heard(notify.channel, notify.payload)
                for notify in self.connection.notifies(timeout=seconds, stop_after=1)
            ]
        except psycopg.Error as away:
            raise DatabaseAway(_in_a_line(away)) from away

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self.connection.close()


def _require_dsn(dsn: str) -> None:
    try:
        conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as no:
        raise Refused(f"this is no DSN: {_in_a_line(no)}", "host=... dbname=..., or postgresql://HOST/DBNAME") from no


def _settings() -> dict[str, Any]:
    return {
        "autocommit": True,
        "options": " ".join(f"-c {name}={value}" for name, value in SESSION.items()),
        "application_name": "vcl",
        "target_session_attrs": "read-write",
        "connect_timeout": 5,
        **KEEPALIVE,
    }


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
