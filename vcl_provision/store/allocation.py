"""Who waits for a computer, which computers there are, and giving one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from vcl_provision.model.faults import Fault
from vcl_provision.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A reservation without a computer, as it stands in the queue. Moments are seconds since the epoch.

    `soon`: it begins so soon that it matters whether a host has room now. `refused_by`: ids of the hosts that had none
    when it was to be loaded there, and `refused_names`.
    """

    reservation_id: int
    request_id: int
    revision_id: int
    begin: float
    until: float
    waits: bool
    soon: bool
    refused_by: list[int]
    refused_names: list[str]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A computer in service: which of the revisions asked for it could run, what it holds, when it is reserved.

    `no_room`: why nothing can be loaded on it now; `no_new_master`: only what lies on its host already.
    """

    computer_id: int
    host_id: int | None
    runs: list[int]
    holds: int | None
    free_now: bool
    no_room: str | None
    no_new_master: bool
    busy_from: list[float]
    busy_until: list[float]


def in_queue(conn: Connection, limit: int) -> list[Waiting]:
    """Who waits for a computer, in the order in which they are served: by start, then by arrival."""
    with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(
            """
            SELECT r.id AS reservation_id, r.request_id, r.image_revision_id AS revision_id,
                   extract(epoch FROM greatest(q.start_time, vcl.now()))::float8 AS begin,
                   extract(epoch FROM q.end_time)::float8 AS until, q.wait_for_computer AS waits,
                   q.start_time < vcl.now() + interval '1 hour' AS soon,
                   coalesce(refusal.ids, '{}') AS refused_by, coalesce(refusal.names, '{}') AS refused_names
              FROM reservation r JOIN request q ON q.id = r.request_id
              LEFT JOIN LATERAL (
                   SELECT array_agg(h.id ORDER BY n.refused_at, h.name) AS ids,
                          array_agg(h.name ORDER BY n.refused_at, h.name) AS names
                     FROM vm_host_refusal n JOIN vm_host h ON h.id = n.vm_host_id
                    WHERE n.reservation_id = r.id) refusal ON true
             WHERE r.computer_id IS NULL AND r.released_at IS NULL AND q.state IN ('new', 'reload')
               AND q.end_time > vcl.now()
             ORDER BY greatest(q.start_time, q.created_at), q.id, r.id LIMIT %s
            """,
            [limit],
        ).fetchall()


def may_decide(conn: Connection) -> bool:
    """Lets one node at a time decide, until the end of the transaction; False if another one does."""
    row = conn.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('allocation', 0))").fetchone()
    return bool(row and row[0])


def standing(conn: Connection, revisions: Sequence[int], begin: float, until: float) -> list[Standing]:
    """The computers in service that can run one of the revisions, and when they are reserved in that time."""
    with conn.cursor(row_factory=class_row(Standing)) as cursor:
        return cursor.execute(
            """
            SELECT c.id AS computer_id, c.vm_host_id AS host_id, array_agg(v.id) AS runs,
                   CASE WHEN c.prepared AND NOT c.tainted THEN c.loaded_revision_id END AS holds,
                   c.state = 'available' AS free_now, min(fit.no_room) AS no_room,
                   bool_or(fit.no_new_master) AS no_new_master,
                   coalesce(busy.begin, '{}') AS busy_from, coalesce(busy.until, '{}') AS busy_until
              FROM image_revision v JOIN fit ON fit.image_id = v.image_id JOIN computer c ON c.id = fit.computer_id
              LEFT JOIN (
                   SELECT r.computer_id, array_agg(extract(epoch FROM lower(r.during))::float8) AS begin,
                          array_agg(extract(epoch FROM upper(r.during))::float8) AS until
                     FROM reservation r
                    WHERE r.computer_id IS NOT NULL AND r.released_at IS NULL
                      AND r.during && tstzrange(to_timestamp(%s), to_timestamp(%s))
                    GROUP BY r.computer_id) busy ON busy.computer_id = c.id
             WHERE v.id = ANY(%s) AND fit.in_service
             GROUP BY c.id, busy.begin, busy.until
            """,
            [begin, until, list(revisions)],
        ).fetchall()


def shortlist(
    conn: Connection, revisions: Sequence[int], begin: float, until: float, *, each: int
) -> list[Standing]:
    """The first `each` computers for each of the revisions, in the order of preference, that are free all that time.

    Of thousands it looks at few: sorted first, asked one after the other whether it is free, until there are enough.
    Those whose host has no room for what they do not hold are not among them.
    """
    with conn.cursor(row_factory=class_row(Standing)) as cursor:
        return cursor.execute(
            """
            SELECT listed.computer_id, listed.host_id, array_agg(listed.revision_id) AS runs, listed.holds,
                   listed.free_now, NULL AS no_room, listed.no_new_master, '{}'::float8[] AS busy_from,
                   '{}'::float8[] AS busy_until
              FROM image_revision v, LATERAL (
                   SELECT sorted.*, v.id AS revision_id FROM (
                          SELECT c.id AS computer_id, c.vm_host_id AS host_id, held.revision_id AS holds,
                                 c.state = 'available' AS free_now, fit.no_new_master
                            FROM fit JOIN computer c ON c.id = fit.computer_id, LATERAL (
                                 SELECT CASE WHEN c.prepared AND NOT c.tainted THEN c.loaded_revision_id END
                                        AS revision_id) held
                           WHERE fit.image_id = v.image_id AND fit.in_service
                             AND (fit.no_room IS NULL OR held.revision_id = v.id)
                           ORDER BY c.state = 'available' DESC, (held.revision_id = v.id) IS TRUE DESC,
                                    fit.no_new_master, held.revision_id IS NULL DESC, c.id) sorted
                    WHERE (SELECT r.id FROM reservation r
                            WHERE r.computer_id = sorted.computer_id AND r.released_at IS NULL
                              AND int8range(r.computer_id, r.computer_id, '[]')
                                  && int8range(sorted.computer_id, sorted.computer_id, '[]')
                              AND r.during && tstzrange(to_timestamp(%s), to_timestamp(%s)) LIMIT 1) IS NULL
                    LIMIT %s) listed
             WHERE v.id = ANY(%s) GROUP BY listed.computer_id, listed.host_id, listed.holds, listed.free_now,
                   listed.no_new_master
            """,
            [begin, until, each, list(revisions)],
        ).fetchall()


class Taken(Exception):
    """One of the computers was taken by now: none of these (reservation, computer) was given, ask for each alone."""

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def assign(conn: Connection, pairs: Sequence[tuple[int, int]]) -> None:
    """Gives each (reservation, computer) of `pairs`. Raises Taken, which ends the transaction that it is called in."""
    try:
        conn.execute(
            """
            WITH given AS (
                UPDATE reservation r SET computer_id = pair.computer, waiting_because =
                       CASE WHEN lower(r.during) > vcl.now() THEN 'it starts later' END
                  FROM unnest(%s::bigint[], %s::bigint[]) AS pair (reservation, computer)
                 WHERE r.id = pair.reservation AND r.computer_id IS NULL AND r.released_at IS NULL
                RETURNING r.id, r.request_id, r.computer_id),
            moved AS (
                INSERT INTO journal (request_id, reservation_id, computer_id, kind, said)
                SELECT given.request_id, given.id, c.id, 'note',
                       concat('moved from ', before.name, ' on ', left_host.name, ' to ', c.name, ' on ' || h.name)
                  FROM given
                  JOIN LATERAL (SELECT * FROM vm_host_refusal n WHERE n.reservation_id = given.id
                                 ORDER BY n.refused_at DESC LIMIT 1) refusal ON true
                  JOIN vm_host left_host ON left_host.id = refusal.vm_host_id
                  LEFT JOIN computer before ON before.id = refusal.computer_id
                  JOIN computer c ON c.id = given.computer_id LEFT JOIN vm_host h ON h.id = c.vm_host_id)
            SELECT commit_soon()
            """,
            [[pair[0] for pair in pairs], [pair[1] for pair in pairs]],
        )
    except psycopg.errors.ExclusionViolation as taken:
        raise Taken(pairs) from taken


def say_why(conn: Connection, waits: Sequence[tuple[int, str]]) -> None:
    """Tells each (reservation, because) why it waits, if that is news."""
    conn.execute(
        """
        UPDATE reservation r SET waiting_because = told.because
          FROM unnest(%s::bigint[], %s::text[]) AS told (reservation, because)
         WHERE r.id = told.reservation AND r.waiting_because IS DISTINCT FROM told.because
        """,
        [[wait[0] for wait in waits], [wait[1] for wait in waits]],
    )


def refuse(conn: Connection, request_id: int, fault: Fault) -> None:
    """A request without a computer that does not wait, or waited in vain, has failed: nothing is to be undone."""
    conn.execute(
        """
        WITH q AS (
            UPDATE request SET state = 'failed', last_state = state, state_since = vcl.now(), fault_kind = %s,
                   fault_said = %s, fault_hint = %s
             WHERE id = %s AND state IN ('new', 'reload') RETURNING id),
        booked AS (
            UPDATE accounting_log SET ending = 'failed', final_end = vcl.now() FROM q WHERE request_id = q.id)
        UPDATE reservation SET released_at = CASE WHEN computer_id IS NULL THEN vcl.now() END,
               due_at = CASE WHEN computer_id IS NOT NULL THEN vcl.now() END, waiting_because = NULL
          FROM q WHERE request_id = q.id
        RETURNING CASE WHEN claim_token IS NOT NULL THEN pg_notify('vcl_cancel', reservation.id::text) END
        """,
        [fault.kind.value, fault.said, fault.hint, request_id],
    )


def waited_in_vain(conn: Connection) -> list[int]:
    """Requests whose time is over before they had a computer."""
    rows = conn.execute(
        """
        SELECT DISTINCT r.request_id FROM reservation r JOIN request q ON q.id = r.request_id
         WHERE r.computer_id IS NULL AND r.released_at IS NULL AND q.state IN ('new', 'reload')
           AND q.end_time <= vcl.now()
        """
    ).fetchall()
    return [row[0] for row in rows]
