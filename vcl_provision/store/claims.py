"""Who works on what: leases on the database's clock, each with a fresh token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.rows import TupleRow

from vcl_provision.model.reservation import Claim, Renewal
from vcl_provision.model.states import RequestState
from vcl_provision.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class Due:
    """What was claimed, and the seconds until something else will be due; None if nothing will be."""

    claims: list[Claim]
    next_in: float | None


def claim_due(
    conn: Connection, *, node_id: int, limit: int, lease_seconds: float, per_host: int, busy: Mapping[int, int]
) -> Due:
    """Claims what is due, the longest due first: `limit` in all, on each VM host so many that `per_host` are at work.

    `busy`: how many this node works on already, by host; `per_host` or more of them close a host. Reservations that
    another node claims at the same moment are passed over.
    """
    asked: dict[str, object] = {
        "hosts": list(busy),
        "busy": list(busy.values()),
        "per_host": per_host,
        "node": node_id,
        "lease": lease_seconds,
    }
    may_fill_a_host = max(busy.values(), default=0) + limit > per_host
    due, more = _claimed(conn, asked, limit, window=limit + (1000 if may_fill_a_host else limit))
    if more and len(due.claims) < limit:  # others were claiming the same
        rest, _ = _claimed(conn, asked, limit - len(due.claims), window=limit + 1000)
        return Due(claims=due.claims + rest.claims, next_in=rest.next_in)
    return due


def _claimed(conn: Connection, asked: dict[str, object], limit: int, *, window: int) -> tuple[Due, bool]:
    """Claims of the `window` that are due the longest; whether there are as many, and so perhaps more."""
    rows = conn.execute(_CLAIM, asked | {"limit": limit, "window": window}).fetchall()
    return Due(claims=[_claim(row) for row in rows if row[0] is not None], next_in=rows[0][7]), rows[0][8] >= window


# It need not wait for the disk: whatever is done outside comes after a record that does, and this goes there before it.
# A claim that a crash of the server took back is found to be lost at the next record, and has done nothing.
_CLAIM = """
    WITH room AS (SELECT * FROM unnest(%(hosts)s::bigint[], %(busy)s::int[]) AS room (host_id, busy)),
    longest AS MATERIALIZED (
        SELECT id, computer_id, due_at FROM reservation
         WHERE due_at <= vcl.now() AND lease_until IS NULL AND computer_id IS NOT NULL
         ORDER BY due_at LIMIT %(window)s),
    ranked AS MATERIALIZED (
        SELECT r.id, c.vm_host_id,
               row_number() OVER (PARTITION BY c.vm_host_id ORDER BY r.due_at) + coalesce(room.busy, 0) AS place
          FROM longest r JOIN computer c ON c.id = r.computer_id LEFT JOIN room ON room.host_id = c.vm_host_id),
    due AS MATERIALIZED (
        SELECT r.id, r.due_at, ranked.vm_host_id FROM reservation r JOIN ranked ON ranked.id = r.id
         WHERE r.due_at <= vcl.now() AND r.lease_until IS NULL
           AND (ranked.vm_host_id IS NULL OR ranked.place <= %(per_host)s)
         ORDER BY r.due_at LIMIT %(limit)s FOR UPDATE OF r SKIP LOCKED),
    claimed AS (
        UPDATE reservation r SET claim_token = gen_random_uuid(), claimed_by = %(node)s, claimed_at = vcl.now(),
               lease_until = vcl.now() + make_interval(secs => %(lease)s), due_at = 'infinity'
          FROM due, request q WHERE r.id = due.id AND q.id = r.request_id
        RETURNING r.id, q.id AS request_id, r.claim_token, q.state, due.vm_host_id, due.due_at, r.claimed_at)
    SELECT claimed.*, following.seconds, (SELECT count(*) FROM longest), commit_soon() FROM (
        SELECT extract(epoch FROM min(due_at) - vcl.now())::float8 AS seconds FROM reservation
         WHERE lease_until IS NULL AND due_at IS NOT NULL AND computer_id IS NOT NULL
           AND due_at > vcl.now() AND due_at < 'infinity') following LEFT JOIN claimed ON true
"""


def _claim(row: TupleRow) -> Claim:
    return Claim(
        reservation_id=row[0],
        request_id=row[1],
        token=row[2],
        state=RequestState(row[3]),
        host_id=row[4],
        due_at=row[5],
        claimed_at=row[6],
    )


def renew(conn: Connection, *, claims: Sequence[Claim], lease_seconds: float) -> list[Renewal]:
    """Renews the leases that are still held; those missing from the answer are lost. Tells how each request is now.

    One that somebody else changes at this moment is renewed the next time, of three in a lease: waiting for it here,
    with others locked already, could end in a deadlock.
    """
    rows = conn.execute(
        """
        WITH held AS (
            SELECT id FROM reservation WHERE id = ANY(%(ids)s) AND claim_token = ANY(%(tokens)s)
               FOR UPDATE SKIP LOCKED),
        renewed AS (
            UPDATE reservation r SET lease_until = vcl.now() + make_interval(secs => %(lease)s)
              FROM held WHERE r.id = held.id)
        SELECT r.id, r.claim_token, q.state, extract(epoch FROM q.end_time - vcl.now())::float8,
               CASE WHEN held.id IS NULL THEN extract(epoch FROM r.lease_until - vcl.now()) ELSE %(lease)s END::float8
          FROM reservation r JOIN request q ON q.id = r.request_id LEFT JOIN held ON held.id = r.id
         WHERE r.id = ANY(%(ids)s) AND r.claim_token = ANY(%(tokens)s)
        """,
        {
            "lease": lease_seconds,
            "ids": [claim.reservation_id for claim in claims],
            "tokens": [claim.token for claim in claims],
        },
    ).fetchall()
    return [
        Renewal(reservation_id=row[0], token=row[1], state=RequestState(row[2]), remaining=row[3], lease=row[4])
        for row in rows
    ]


def reap(conn: Connection) -> int:
    """Frees what nodes that died had claimed, theirs and ours alike: due now. Returns how many."""
    return _free(
        conn,
        conn.execute(
            """
            UPDATE reservation SET claim_token = NULL, claimed_by = NULL, claimed_at = NULL, lease_until = NULL,
                   due_at = least(due_at, vcl.now())
             WHERE lease_until < vcl.now()
            """
        ).rowcount,
    )


def moment(conn: Connection) -> float:
    """Now on the lab's clock, in seconds since the epoch."""
    return conn.execute("SELECT extract(epoch FROM vcl.now())::float8").fetchall()[0][0]


def look_at_all(conn: Connection, *, lease_seconds: float) -> None:
    """The clock jumped: makes all that has started due now, and lets no lease last longer than one from now on.

    What was to be looked at in a while was reckoned on the old clock; each handler finds out for itself what is due.
    """
    conn.execute(
        """
        UPDATE reservation SET due_at = vcl.now()
         WHERE due_at > vcl.now() AND due_at < 'infinity' AND lease_until IS NULL AND released_at IS NULL
           AND (lower(during) <= vcl.now() OR occupies)
        """
    )
    conn.execute(
        """
        UPDATE reservation SET lease_until = vcl.now() + make_interval(secs => %(lease)s)
         WHERE lease_until > vcl.now() + make_interval(secs => %(lease)s)
        """,
        {"lease": lease_seconds},
    )


def free_own(conn: Connection, node_id: int) -> int:
    """Frees what this node had claimed in a former life. Only for who holds the node's name. Returns how many."""
    return _free(
        conn,
        conn.execute(
            """
            UPDATE reservation SET claim_token = NULL, claimed_by = NULL, claimed_at = NULL, lease_until = NULL,
                   due_at = least(due_at, vcl.now())
             WHERE claimed_by = %s
            """,
            [node_id],
        ).rowcount,
    )


def _free(conn: Connection, freed: int) -> int:
    if freed:
        call_all(conn)
    return freed


def call_all(conn: Connection) -> None:
    """Has all nodes look for what is due, or will be."""
    conn.execute("NOTIFY vcl_due")
