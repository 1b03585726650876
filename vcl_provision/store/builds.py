"""Images to be built: a queue of its own, taken from by builders with a lease, beside the reservations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from vcl_provision.model.faults import Refused
from vcl_provision.store.database import Connection

CHANNEL = "vcl_build"
"""Says the number of a build that came or changed."""
MOST_ATTEMPTS = 3
"""Builders that may die of one build before it counts as failed."""


class Ending(StrEnum):
    """How a build ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Standing(StrEnum):
    """What a builder is told each time it renews its lease."""

    GOES_ON = "goes on"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class Build:
    """A build, as people see it."""

    id: int
    key: str
    state: str
    asked_by: str
    asked_at: datetime
    builder: str | None
    began_at: datetime | None
    ended_at: datetime | None
    revision_name: str | None
    said: str | None
    hint: str | None


@dataclass(frozen=True, kw_only=True)
class ClaimedBuild:
    """A build in a builder's hands, for as long as the lease of this token lasts."""

    id: int
    key: str
    spec: Mapping[str, object]
    token: UUID


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line that a build said."""

    id: int
    at: datetime
    line: str


def enqueue(conn: Connection, *, key: str, spec: Mapping[str, object], asked_by: str = "") -> tuple[int, bool]:
    """The number of the build of this key, and whether it is new: one that waits or runs already serves all who ask."""
    while True:
        row = conn.execute(
            """
            WITH new AS (
                INSERT INTO image_build (key, spec, asked_by) VALUES (%(key)s, %(spec)s, coalesce(%(by)s, session_user))
                ON CONFLICT (key) WHERE state IN ('queued', 'running') DO NOTHING RETURNING id)
            SELECT id, true FROM new
            UNION ALL SELECT id, false FROM image_build WHERE key = %(key)s AND state IN ('queued', 'running')
            """,
            {"key": key, "spec": Jsonb(dict(spec)), "by": asked_by or None},
        ).fetchone()
        if row is not None:  # else the one in the way ended, or was made, between the two questions
            return row[0], row[1]


def claim(conn: Connection, *, builder: str, lease_seconds: float) -> ClaimedBuild | None:
    """Takes the build that has waited longest, or one whose builder died; None if there is none."""
    _give_up_the_deadly(conn)
    row = conn.execute(
        """
        UPDATE image_build b
           SET state = 'running', builder = %(builder)s, claim_token = gen_random_uuid(), attempts = attempts + 1,
               lease_until = vcl.now() + make_interval(secs => %(lease)s), began_at = coalesce(began_at, vcl.now())
          FROM (SELECT id FROM image_build
                 WHERE state = 'queued' OR (state = 'running' AND lease_until < vcl.now() AND NOT cancel_asked)
                 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) next
         WHERE b.id = next.id RETURNING b.id, b.key, b.spec, b.claim_token
        """,
        {"builder": builder, "lease": lease_seconds},
    ).fetchone()
    return ClaimedBuild(id=row[0], key=row[1], spec=row[2], token=row[3]) if row else None


def _give_up_the_deadly(conn: Connection) -> None:
    """Ends builds whose builders died: those to be cancelled, and those that have killed too many."""
    conn.execute(
        """
        UPDATE image_build SET state = CASE WHEN cancel_asked THEN 'cancelled' ELSE 'failed' END, ended_at = vcl.now(),
               claim_token = NULL, lease_until = NULL,
               said = CASE WHEN cancel_asked THEN NULL ELSE format('%%s builders died of it', attempts) END,
               hint = CASE WHEN cancel_asked THEN NULL ELSE 'see the builder''s log; ask again after' END
         WHERE state = 'running' AND lease_until < vcl.now() AND (cancel_asked OR attempts >= %s)
        """,
        [MOST_ATTEMPTS],
    )


def carry_on(conn: Connection, build: ClaimedBuild, *, lines: Sequence[str], lease_seconds: float) -> Standing:
    """Renews the lease, writes down what the build has said since, and tells how it stands."""
    row = conn.execute(
        """
        WITH held AS (
            UPDATE image_build SET lease_until = vcl.now() + make_interval(secs => %(lease)s)
             WHERE id = %(id)s AND claim_token = %(token)s RETURNING id, cancel_asked),
        written AS (
            INSERT INTO image_build_log (image_build_id, line)
            SELECT held.id, line FROM held, unnest(%(lines)s::text[]) WITH ORDINALITY AS said (line, place)
             ORDER BY place)
        SELECT cancel_asked FROM held
        """,
        {
            "lease": lease_seconds,
            "id": build.id,
            "token": build.token,
            "lines": [line.replace("\x00", "�") for line in lines],
        },
    ).fetchone()
    if row is None:
        return Standing.LOST
    return Standing.CANCELLED if row[0] else Standing.GOES_ON


def finish(
    conn: Connection, build: ClaimedBuild, ending: Ending, *, revision_name: str = "", said: str = "", hint: str = ""
) -> bool:
    """Says how it ended; False if another builder has it by now."""
    return bool(
        conn.execute(
            """
            UPDATE image_build SET state = %s, ended_at = vcl.now(), claim_token = NULL, lease_until = NULL,
                   revision_name = nullif(%s, ''), said = nullif(%s, ''), hint = nullif(%s, '')
             WHERE id = %s AND claim_token = %s
            """,
            [ending, revision_name, said, hint, build.id, build.token],
        ).rowcount
    )


def hand_back(conn: Connection, build: ClaimedBuild) -> None:
    """Back into the queue, as if it had not been taken: its builder is told to stop."""
    conn.execute(
        """
        UPDATE image_build SET state = 'queued', claim_token = NULL, lease_until = NULL, attempts = attempts - 1
         WHERE id = %s AND claim_token = %s
        """,
        [build.id, build.token],
    )


def cancel(conn: Connection, number: int) -> str:
    """Its state after that: one that waits is cancelled at once, one that runs is told to stop.

    Raises Refused if there is no such build, or it is over.
    """
    row = conn.execute(
        """
        UPDATE image_build
           SET cancel_asked = true, state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END,
               ended_at = CASE state WHEN 'queued' THEN vcl.now() END
         WHERE id = %s AND state IN ('queued', 'running') RETURNING state
        """,
        [number],
    ).fetchone()
    if row is None:
        there = one(conn, number)
        raise Refused(f"build {number} is over: it is {there.state!r}", "only one that waits or runs can be cancelled")
    return row[0]


def one(conn: Connection, number: int) -> Build:
    """Raises Refused if there is none of this number."""
    with conn.cursor(row_factory=class_row(Build)) as cursor:
        row = cursor.execute(
            """
            SELECT id, key, state, asked_by, asked_at, builder, began_at, ended_at, revision_name, said, hint
              FROM image_build WHERE id = %s
            """,
            [number],
        ).fetchone()
    if row is None:
        raise Refused(f"there is no build {number}", "vcl builds list shows them")
    return row


def latest(conn: Connection, limit: int) -> list[Build]:
    """Those that wait and run, then those that ended last."""
    with conn.cursor(row_factory=class_row(Build)) as cursor:
        return cursor.execute(
            """
            SELECT id, key, state, asked_by, asked_at, builder, began_at, ended_at, revision_name, said, hint
              FROM image_build ORDER BY (ended_at IS NULL) DESC, id DESC LIMIT %s
            """,
            [limit],
        ).fetchall()


def log_since(conn: Connection, number: int, after: int) -> list[LogLine]:
    """What a build said after the line of this id, in order; 0: all of it."""
    with conn.cursor(row_factory=class_row(LogLine)) as cursor:
        return cursor.execute(
            "SELECT id, at, line FROM image_build_log WHERE image_build_id = %s AND id > %s ORDER BY id",
            [number, after],
        ).fetchall()


def prune(conn: Connection, *, older_than: float) -> None:
    """Forgets builds that ended so many seconds ago, with their logs."""
    conn.execute("DELETE FROM image_build WHERE ended_at < vcl.now() - make_interval(secs => %s)", [older_than])
