"""Writing down what came of a turn: all or nothing, and only for who holds the claim's token."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg.rows import dict_row

from vcl_provision.model.faults import LeaseLost
from vcl_provision.model.reservation import Claim
from vcl_provision.model.states import Event, RequestState
from vcl_provision.store import siblings
from vcl_provision.store.database import Connection
from vcl_provision.store.rules import Again, Blame, Noted, Rules, as_asked, as_noted
from vcl_provision.store.work import Gathered, moved


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A claim that is not given back, in the state that its request has now. `known`: the lab as the move left it."""

    claim: Claim
    known: Gathered | None = None


def done(
    conn: Connection,
    claim: Claim,
    event: Event,
    *,
    noted: Noted,
    rules: Rules,
    keep: bool,
    blame: Blame | None = None,
    known: Gathered | None = None,
) -> Kept | None:
    """This reservation's part in the state is over; the request goes on when all of its reservations have reported.

    Returns the claim, in the state that it then has, if it is kept: for one that is the only one of its request, is not
    over, and if `keep`; with what was `known` before, brought up to date. If the request changed meanwhile (deleted),
    nothing is moved. With a `blame` the request fails at once, whatever its other reservations do. Raises LeaseLost.
    """
    asked = as_asked(claim.state, event, rules, blame) | as_noted(noted)
    kept = keep and not asked["over"]
    asked |= {"request": claim.request_id, "reservation": claim.reservation_id, "token": claim.token, "keep": kept}
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_MOVE_ALONE, asked).fetchone()
    if row is not None:
        claim = replace(claim, state=RequestState(asked["target"]))
        return Kept(claim=claim, known=known and moved(known, row)) if kept else None
    with conn.transaction():
        still = siblings.report(conn, claim, event, noted=noted, rules=rules, keep=keep, blame=blame)
    return None if still is None else Kept(claim=still)


_MOVE_ALONE = """
    WITH q AS (
        SELECT id, start_time, end_time, remote_address, acknowledged_at FROM request
         WHERE id = %(request)s AND state = %(state)s AND machines = 1 FOR UPDATE),
    r AS (
        UPDATE reservation r SET reported = NULL, attempts = 0, waiting_because = NULL, state_since = vcl.now(),
               granted_address = coalesce(%(granted)s, r.granted_address),
               connected_at = coalesce(%(connected)s, r.connected_at),
               last_seen_at = coalesce(%(seen)s, r.last_seen_at),
               notices_sent = coalesce(%(notices)s, r.notices_sent),
               due_at = CASE WHEN %(keep)s THEN timestamptz 'infinity' WHEN NOT %(over)s THEN vcl.now() END,
               claim_token = CASE WHEN %(keep)s THEN r.claim_token END,
               claimed_by = CASE WHEN %(keep)s THEN r.claimed_by END,
               claimed_at = CASE WHEN %(keep)s THEN r.claimed_at END,
               lease_until = CASE WHEN %(keep)s THEN r.lease_until END,
               occupies = r.occupies AND NOT %(over)s,
               released_at = CASE WHEN %(over)s THEN vcl.now() END
          FROM q, reservation before
         WHERE r.id = %(reservation)s AND r.claim_token = %(token)s AND before.id = r.id
        RETURNING r.id, r.computer_id, r.state_since, r.occupies, r.attempts, r.granted_address, r.connected_at,
                  r.last_seen_at, r.notices_sent, before.occupies AS occupied),
    moved AS (
        UPDATE request SET state = %(target)s, last_state = %(state)s, state_since = vcl.now(),
               fault_kind = coalesce(%(fault_kind)s, fault_kind), fault_said = coalesce(%(fault_said)s, fault_said),
               fault_hint = coalesce(%(fault_hint)s, fault_hint)
          FROM r WHERE request.id = %(request)s AND %(target)s <> %(state)s),
    turned AS (
        UPDATE computer c SET state = CASE WHEN %(over)s AND %(target)s = 'failed' AND is_suspect(c.id) THEN 'failed'
               ELSE %(computer_state)s END
          FROM r WHERE c.id = r.computer_id AND r.occupied AND c.state NOT IN ('maintenance', 'vmhostinuse')
        RETURNING c.state),
    booked AS (
        UPDATE accounting_log a SET computer_id = r.computer_id,
               connected_at = coalesce(a.connected_at, r.connected_at),
               remote_address = coalesce(a.remote_address, r.granted_address),
               loaded_at = CASE WHEN %(event)s = 'loaded' THEN vcl.now() ELSE a.loaded_at END,
               ending = CASE WHEN a.ending <> 'none' THEN a.ending WHEN a.connected_at IS NULL THEN %(ending_if_not)s
                             ELSE %(ending_if_in)s END,
               final_end = CASE WHEN %(over)s THEN vcl.now() ELSE a.final_end END,
               computer_blamed = a.computer_blamed OR %(blame_computer)s
          FROM r WHERE a.reservation_id = r.id)
    SELECT commit_soon(), vcl.now() AS now, %(target)s AS state, %(state)s AS last_state,
           q.start_time, q.end_time, q.remote_address, q.acknowledged_at,
           r.state_since, r.occupies, r.attempts, r.granted_address, r.connected_at, r.last_seen_at, r.notices_sent,
           coalesce((SELECT state FROM turned), c.state) AS computer_state,
           c.host_key, c.loaded_revision_id, c.prepared, c.tainted
      FROM r CROSS JOIN q JOIN computer c ON c.id = r.computer_id
"""


def again(conn: Connection, claim: Claim, again: Again) -> float:
    """Gives the claim back, to be asked again; sooner if something woke it meanwhile. Seconds until it is due.

    Raises LeaseLost.
    """
    row = conn.execute(
        """
        UPDATE reservation SET due_at = least(due_at, vcl.now() + make_interval(secs => %(after)s)),
               claim_token = NULL, claimed_by = NULL, claimed_at = NULL, lease_until = NULL,
               attempts = CASE WHEN %(attempt)s THEN attempts + 1 ELSE 0 END,
               waiting_because = nullif(%(because)s, ''),
               granted_address = coalesce(%(granted)s, granted_address),
               connected_at = coalesce(%(connected)s, connected_at),
               last_seen_at = coalesce(%(seen)s, last_seen_at),
               notices_sent = coalesce(%(notices)s, notices_sent)
         WHERE id = %(reservation)s AND claim_token = %(token)s
        RETURNING extract(epoch FROM due_at - vcl.now())::float8, commit_soon()
        """,
        as_noted(again.noted)
        | {
            "after": again.after,
            "attempt": again.attempt,
            "because": again.because.replace("\x00", ""),
            "reservation": claim.reservation_id,
            "token": claim.token,
        },
    ).fetchone()
    if row is None:
        raise LeaseLost
    return max(0.0, row[0])


def settle(conn: Connection, claim: Claim) -> None:
    """Gives the claim back with nothing left to be done: its request is over."""
    conn.execute(
        """
        UPDATE reservation SET due_at = NULL, claim_token = NULL, claimed_by = NULL, claimed_at = NULL,
               lease_until = NULL,
               occupies = false, released_at = coalesce(released_at, vcl.now())
         WHERE id = %s AND claim_token = %s
        """,
        [claim.reservation_id, claim.token],
    )
