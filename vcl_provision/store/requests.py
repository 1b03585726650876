"""Requests, as people make, follow and end them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import class_row, scalar_row

from vcl_provision.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class Status:
    """A line of the view request_status: how a request goes."""

    id: int
    user: str
    image: str
    computer: str | None
    state: str
    since: datetime
    doing: str | None
    address: str | None
    connect: str | None
    start_time: datetime
    end_time: datetime
    remote_address: str | None
    fault: str | None
    hint: str | None
    moved: str | None


@dataclass(frozen=True, kw_only=True)
class LoadStep:
    """A line of the load log: a step, as it began."""

    reservation_id: int
    step: str
    at: datetime
    info: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One reservation of a request, as its user needs to know it: where the machine is, which key it answers with."""

    reservation_id: int
    computer: str | None
    address: str | None
    host_key: str | None
    granted_address: str | None
    waiting_because: str | None
    worked_on_by: str | None
    due_at: datetime | None
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the journal."""

    id: int
    at: datetime
    request_id: int | None
    computer: str | None
    kind: str
    said: str
    fields: dict[str, Any]


_STATUS = """
    SELECT id, "user", image, computer, state::text, since, doing, address, connect, start_time, end_time,
           remote_address, fault, hint, moved
      FROM request_status
"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a user asks for. What is None the database fills in; `lasting` is from the start."""

    user: str
    image: str
    computer: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    lasting: timedelta | None = None
    wait: bool = True
    machines: int = 1


def add_request(conn: Connection, wanted: Wanted) -> int:
    """The new request's number. Raises psycopg's errors, with the database's message and hint, for what cannot be."""
    rows = conn.execute(
        """
        INSERT INTO request (user_id, image_id, computer_id, start_time, end_time, wait_for_computer, machines)
        SELECT user_named(%(user)s), image_named(%(image)s),
               CASE WHEN %(computer)s::text IS NOT NULL THEN computer_named(%(computer)s) END,
               begins.at, coalesce(%(end)s, begins.at + %(lasting)s), %(wait)s, %(machines)s
          FROM (SELECT coalesce(%(start)s, vcl.now()) AS at) AS begins
        RETURNING id
        """,
        asdict(wanted),
    ).fetchall()
    return rows[0][0]


def acknowledge(conn: Connection, request_id: int, address: str) -> bool:
    """The user is at this address and wants in. False if there is no such request."""
    done = conn.execute("UPDATE request SET remote_address = %s WHERE id = %s", [address, request_id])
    return done.rowcount == 1


def extend(
    conn: Connection, request_id: int, *, by: timedelta | None = None, until: datetime | None = None
) -> datetime | None:
    """The new end; None if there is no such request. Raises psycopg's errors if its computer is promised to others."""
    row = conn.execute(
        "UPDATE request SET end_time = coalesce(%s, end_time + %s) WHERE id = %s RETURNING end_time",
        [until, by, request_id],
    ).fetchone()
    return row[0] if row else None


def end(conn: Connection, request_id: int) -> str | None:
    """Gives it back. Its state after that; None if there is no such request. Raises psycopg's errors if it is over."""
    question = "UPDATE request SET state = 'deleted' WHERE id = %s RETURNING state::text"
    row = conn.execute(question, [request_id]).fetchone()
    return row[0] if row else None


def live(conn: Connection) -> list[Status]:
    """All that are not over, oldest first."""
    with conn.cursor(row_factory=class_row(Status)) as cursor:
        return cursor.execute(_STATUS + "WHERE state NOT IN ('complete', 'failed') ORDER BY id").fetchall()


def latest(conn: Connection, count: int) -> list[Status]:
    """The last so many, over or not, oldest first."""
    with conn.cursor(row_factory=class_row(Status)) as cursor:
        return cursor.execute(_STATUS + "ORDER BY id DESC LIMIT %s", [count]).fetchall()[::-1]


def status_of(conn: Connection, request_id: int) -> Status | None:
    with conn.cursor(row_factory=class_row(Status)) as cursor:
        return cursor.execute(_STATUS + "WHERE id = %s", [request_id]).fetchone()


def machines_of(conn: Connection, request_id: int) -> list[Machine]:
    """Its reservations, the parent first."""
    with conn.cursor(row_factory=class_row(Machine)) as cursor:
        return cursor.execute(
            """
            SELECT r.id AS reservation_id, c.name AS computer, c.host_key,
                   host(coalesce(c.public_address, c.private_address)) AS address,
                   host(r.granted_address) AS granted_address, r.waiting_because, n.name AS worked_on_by,
                   nullif(r.due_at, 'infinity') AS due_at, r.attempts
              FROM reservation r
              LEFT JOIN computer c ON c.id = r.computer_id
              LEFT JOIN management_node n ON n.id = r.claimed_by
             WHERE r.request_id = %s ORDER BY r.id
            """,
            [request_id],
        ).fetchall()


def steps_of(conn: Connection, request_id: int) -> list[LoadStep]:
    """Its load log, in order."""
    with conn.cursor(row_factory=class_row(LoadStep)) as cursor:
        return cursor.execute(
            """
            SELECT l.reservation_id, l.step, l.at, l.info FROM load_log l JOIN reservation r ON r.id = l.reservation_id
             WHERE r.request_id = %s ORDER BY l.id
            """,
            [request_id],
        ).fetchall()


def boot_seconds(conn: Connection, image: str) -> float:
    """How long a guest of this image takes to boot: the median of its last boots, else what the image says."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return (
            cursor.execute(
                """
            WITH boot AS (
                SELECT began.at, extract(epoch FROM ended.at - began.at) AS seconds
                  FROM image i
                  JOIN image_revision v ON v.image_id = i.id AND v.production
                  JOIN reservation r ON r.image_revision_id = v.id
                  JOIN load_log began ON began.reservation_id = r.id AND began.step = 'bootstate'
                  JOIN LATERAL (
                    SELECT min(at) AS at FROM load_log l
                     WHERE l.reservation_id = r.id AND l.id > began.id AND l.step = 'machinebooted') ended ON true
                 WHERE i.name = %(image)s AND ended.at IS NOT NULL ORDER BY began.at DESC LIMIT 9)
            SELECT coalesce((SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM boot),
                            (SELECT load_seconds FROM image WHERE name = %(image)s))::float8
            """,
                {"image": image},
            ).fetchone()
            or 0.0
        )


def journal_since(
    conn: Connection, after: int, *, request_id: int | None = None, limit: int = 10_000
) -> Sequence[Entry]:
    """What the journal says after this entry, of one request or of all; the last `limit` of it, in order."""
    with conn.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(
            """
            SELECT * FROM (
                SELECT j.id, j.at, j.request_id, c.name AS computer, j.kind, j.said, j.fields
                  FROM journal j LEFT JOIN computer c ON c.id = j.computer_id
                 WHERE j.id > %(after)s AND (%(request)s::bigint IS NULL OR j.request_id = %(request)s)
                 ORDER BY j.id DESC LIMIT %(limit)s) AS latest
             ORDER BY id
            """,
            {"after": after, "request": request_id, "limit": limit},
        ).fetchall()


def journal_end(conn: Connection) -> int:
    """The number of its last entry, 0 if there is none."""
    return conn.execute("SELECT coalesce(max(id), 0) FROM journal").fetchall()[0][0]


def moment(conn: Connection) -> datetime:
    """Now, on the database's clock."""
    return conn.execute("SELECT clock_timestamp()").fetchall()[0][0]
