"""What happened: journal and load log, written many at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vcl_provision.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the journal; with a `step` it is also one of the load log. `kind`: step, command, fault or note."""

    kind: str
    said: str
    request_id: int | None = None
    reservation_id: int | None = None
    computer_id: int | None = None
    step: str = ""
    info: str = ""
    fields: Mapping[str, object] = field(default_factory=dict[str, object])
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def write(conn: Connection, lines: Sequence[Line]) -> None:
    """Writes all of them in one statement; what they tell of may be gone meanwhile.

    They go there as one text: psycopg makes arrays element by element, in Python.
    """
    conn.execute(
        """
        WITH line AS (
            SELECT * FROM ROWS FROM (json_to_recordset(%s::json) AS (
                       at timestamptz, kind text, said text, request bigint, reservation bigint, computer bigint,
                       step text, info text, fields jsonb)) WITH ORDINALITY
                   AS line (at, kind, said, request_id, reservation_id, computer_id, step, info, fields, place)),
        written AS (
            INSERT INTO journal (at, kind, said, request_id, reservation_id, computer_id, fields)
            SELECT at, kind, said, request_id, reservation_id, computer_id, fields FROM line ORDER BY place),
        logged AS (
            INSERT INTO load_log (at, reservation_id, computer_id, step, info)
            SELECT at, reservation_id, computer_id, step, info FROM line WHERE step <> '' ORDER BY place)
        SELECT commit_soon()
        """,
        [_storable(json.dumps([_told(line) for line in lines], default=str))],
    )


def _told(line: Line) -> Mapping[str, object]:
    return {
        "at": line.at.isoformat(),
        "kind": line.kind,
        "said": line.said,
        "request": line.request_id,
        "reservation": line.reservation_id,
        "computer": line.computer_id,
        "step": line.step,
        "info": line.info,
        "fields": dict(line.fields),
    }


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL: a guest's output may have one. Of JSON."""
    return text.replace("\\u0000", "\\ufffd")


def prune(conn: Connection, *, journal: float, load_log: float) -> None:
    """Forgets what is older, in seconds; requests that are over go with their journal. The accounting log stays."""
    conn.execute("DELETE FROM journal WHERE at < vcl.now() - make_interval(secs => %s)", [journal])
    conn.execute("DELETE FROM load_log WHERE at < vcl.now() - make_interval(secs => %s)", [load_log])
    conn.execute(
        """
        DELETE FROM request q WHERE q.state IN ('complete', 'failed')
           AND q.state_since < vcl.now() - make_interval(secs => %s)
           AND NOT EXISTS (SELECT FROM reservation r WHERE r.request_id = q.id AND r.released_at IS NULL)
        """,
        [journal],
    )
