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
    """Writes all of them in one statement; what they tell of may be gone meanwhile."""
    conn.execute(
        """
        WITH line AS (
            SELECT * FROM unnest(%(at)s::timestamptz[], %(kind)s::text[], %(said)s::text[], %(request)s::bigint[],
                                 %(reservation)s::bigint[], %(computer)s::bigint[], %(step)s::text[], %(info)s::text[],
                                 %(fields)s::jsonb[]) WITH ORDINALITY
                   AS line (at, kind, said, request_id, reservation_id, computer_id, step, info, fields, place)),
        written AS (
            INSERT INTO journal (at, kind, said, request_id, reservation_id, computer_id, fields)
            SELECT at, kind, said, request_id, reservation_id, computer_id, fields FROM line ORDER BY place),
        logged AS (
            INSERT INTO load_log (at, reservation_id, computer_id, step, info)
            SELECT at, reservation_id, computer_id, step, info FROM line WHERE step <> '' ORDER BY place)
        SELECT commit_soon()
        """,
        {
            "at": [line.at for line in lines],
            "kind": [line.kind for line in lines],
            "said": [_storable(line.said) for line in lines],
            "request": [line.request_id for line in lines],
            "reservation": [line.reservation_id for line in lines],
            "computer": [line.computer_id for line in lines],
            "step": [line.step for line in lines],
            "info": [_storable(line.info) for line in lines],
            "fields": [_storable(json.dumps(dict(line.fields), default=str)) for line in lines],
        },
    )


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL: a guest's output may have one, in plain text or in JSON."""
    return text.replace("\x00", "�").replace("\\u0000", "\\ufffd")


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
