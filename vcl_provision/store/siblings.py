"""Requests of several machines: the request goes on when the last of its reservations has reported."""

from __future__ import annotations

from dataclasses import replace

from vcl_provision.model.faults import LeaseLost
from vcl_provision.model.reservation import Claim
from vcl_provision.model.states import Event, RequestState
from vcl_provision.store.database import Connection
from vcl_provision.store.rules import Blame, Noted, Rules, as_asked, as_noted


def report(
    conn: Connection, claim: Claim, event: Event, *, noted: Noted, rules: Rules, keep: bool, blame: Blame | None
) -> Claim | None:
    """Reports one reservation's event, in the caller's transaction; moves the request if it was the last, or enough.

    Of a request that changed meanwhile nothing is reported: its claim is kept, in the state that it has now, if `keep`,
    since nobody would be woken for it. Raises LeaseLost.
    """
    state = locked(conn, claim)
    if state is not claim.state and keep:
        return replace(claim, state=state)
    _give_back(conn, claim, event if state is claim.state else None, noted)
    if state is not claim.state:
        return None
    events = _reported(conn, claim)
    if blame is not None or rules.is_enough(event):
        _move(conn, claim, event, rules=rules, blame=blame)
    elif None not in events:
        _move(conn, claim, rules.combined(Event(event) for event in events), rules=rules, blame=None)
    return None


def locked(conn: Connection, claim: Claim) -> RequestState:
    """The request as it is now, held still; the request first, then reservations, as everywhere."""
    row = conn.execute("SELECT state FROM request WHERE id = %s FOR UPDATE", [claim.request_id]).fetchone()
    held = conn.execute(
        "SELECT FROM reservation WHERE id = %s AND claim_token = %s FOR UPDATE", [claim.reservation_id, claim.token]
    ).fetchone()
    if row is None or held is None:
        raise LeaseLost
    return RequestState(row[0])


def _give_back(conn: Connection, claim: Claim, event: Event | None, noted: Noted) -> None:
    """The claim is given back: reported and waiting for the others, or due at once if the request changed."""
    conn.execute(
        """
        UPDATE reservation SET reported = %(event)s, attempts = 0,
               due_at = CASE WHEN %(event)s::text IS NULL THEN vcl.now() ELSE timestamptz 'infinity' END,
               waiting_because = CASE WHEN %(event)s::text IS NOT NULL THEN 'waiting for the other machines' END,
               claim_token = NULL, claimed_by = NULL, claimed_at = NULL, lease_until = NULL,
               granted_address = coalesce(%(granted)s, granted_address),
               connected_at = coalesce(%(connected)s, connected_at),
               last_seen_at = coalesce(%(seen)s, last_seen_at),
               notices_sent = coalesce(%(notices)s, notices_sent)
         WHERE id = %(reservation)s
        """,
        as_noted(noted) | {"event": event.value if event else None, "reservation": claim.reservation_id},
    )


def _reported(conn: Connection, claim: Claim) -> list[str | None]:
    rows = conn.execute(
        "SELECT reported FROM reservation WHERE request_id = %s AND released_at IS NULL", [claim.request_id]
    ).fetchall()
    return [row[0] for row in rows]


def _move(conn: Connection, claim: Claim, event: Event, *, rules: Rules, blame: Blame | None) -> None:
    """The whole request goes on: all its reservations are due in the new state, or over."""
    asked = as_asked(claim.state, event, rules, blame) | {
        "request": claim.request_id,
        "reservation": claim.reservation_id,
    }
    conn.execute(_MOVE_ALL, asked)
    conn.execute(
        """
        SELECT pg_notify('vcl_due', ''), (SELECT count(pg_notify('vcl_cancel', id::text)) FROM reservation
                                           WHERE request_id = %s AND claim_token IS NOT NULL)
        """,
        [claim.request_id],
    )


_MOVE_ALL = """
    WITH before AS (
        SELECT id, occupies, connected_at FROM reservation WHERE request_id = %(request)s AND released_at IS NULL),
    r AS (
        UPDATE reservation r SET reported = NULL, waiting_because = NULL, state_since = vcl.now(), attempts = 0,
               due_at = CASE WHEN NOT %(over)s THEN vcl.now() END,
               occupies = r.occupies AND NOT %(over)s,
               released_at = CASE WHEN %(over)s THEN vcl.now() END
          FROM before WHERE r.id = before.id
        RETURNING r.id, r.computer_id, r.connected_at, r.granted_address, before.occupies AS occupied),
    moved AS (
        UPDATE request SET state = %(target)s, last_state = %(state)s, state_since = vcl.now(),
               fault_kind = coalesce(%(fault_kind)s, fault_kind), fault_said = coalesce(%(fault_said)s, fault_said),
               fault_hint = coalesce(%(fault_hint)s, fault_hint)
         WHERE id = %(request)s AND %(target)s <> %(state)s),
    turned AS (
        UPDATE computer c SET state = CASE WHEN %(over)s AND %(target)s = 'failed' AND is_suspect(c.id) THEN 'failed'
               ELSE %(computer_state)s END
          FROM r WHERE c.id = r.computer_id AND r.occupied AND c.state NOT IN ('maintenance', 'vmhostinuse'))
    UPDATE accounting_log a SET computer_id = r.computer_id, connected_at = coalesce(a.connected_at, r.connected_at),
           remote_address = coalesce(a.remote_address, r.granted_address),
           loaded_at = CASE WHEN %(event)s = 'loaded' THEN vcl.now() ELSE a.loaded_at END,
           ending = CASE WHEN a.ending <> 'none' THEN a.ending
                         WHEN EXISTS (SELECT FROM before WHERE connected_at IS NOT NULL) THEN %(ending_if_in)s
                         ELSE %(ending_if_not)s END,
           final_end = CASE WHEN %(over)s THEN vcl.now() ELSE a.final_end END,
           computer_blamed = a.computer_blamed OR (%(blame_computer)s AND r.id = %(reservation)s)
      FROM r WHERE a.reservation_id = r.id
"""
