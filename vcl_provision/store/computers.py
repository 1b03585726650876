"""Facts about computers that must be on disk before the work goes on. Each asks for the claim's token."""

from __future__ import annotations

from dataclasses import replace

import psycopg

from vcl_provision.model.faults import LeaseLost
from vcl_provision.model.lab import Computer
from vcl_provision.model.reservation import Claim
from vcl_provision.store.database import Connection


def occupy(conn: Connection, claim: Claim, computer: Computer) -> Computer | None:
    """Takes the computer for the claim's reservation; None while another one has it. Raises LeaseLost.

    Returns what is recorded of it now: its last user's reservation may have changed that since it was asked.
    """
    try:
        row = conn.execute(
            """
            WITH mine AS (
                UPDATE reservation SET occupies = true WHERE id = %s AND claim_token = %s RETURNING computer_id)
            UPDATE computer SET state = CASE WHEN state IN ('maintenance', 'failed', 'vmhostinuse') THEN state
                   ELSE 'reloading' END
              FROM mine WHERE computer.id = mine.computer_id AND computer.id = %s
            RETURNING host_key, loaded_revision_id, prepared, tainted
            """,
            [claim.reservation_id, claim.token, computer.id],
        ).fetchone()
    except psycopg.errors.UniqueViolation:
        return None
    if row is None:
        raise LeaseLost
    return replace(computer, host_key=row[0], loaded_revision_id=row[1], prepared=row[2], tainted=row[3])


def loading(conn: Connection, claim: Claim, computer_id: int, host_key: str) -> None:
    """From here on the computer holds nothing that we know; its next machine has this host key. Raises LeaseLost.

    Whatever lies there still cannot pass for the next one: it does not have the key. So the taint mark can go.
    """
    _held(
        conn.execute(
            """
            UPDATE computer SET loaded_revision_id = NULL, prepared = false, host_key = %s, tainted = false
              FROM reservation r WHERE computer.id = %s AND r.id = %s AND r.claim_token = %s
            """,
            [host_key, computer_id, claim.reservation_id, claim.token],
        ).rowcount
    )


def prepared(conn: Connection, claim: Claim, computer_id: int, revision_id: int) -> None:
    """The computer holds the revision and its post-load steps are done. Raises LeaseLost.

    What was recorded before this reservation's own load is gone: the load began with removing it. Without a load of
    its own, the machine is still the one that another reservation's effect will remove.
    """
    _held(
        conn.execute(
            """
            WITH mine AS (
                SELECT id FROM reservation WHERE id = %(reservation)s AND claim_token = %(token)s),
            gone AS (
                UPDATE effect SET undone_at = vcl.now() FROM mine
                 WHERE computer_id = %(computer)s AND undone_at IS NULL AND effect.id < (
                       SELECT min(own.id) FROM effect own WHERE own.computer_id = %(computer)s
                          AND own.undone_at IS NULL AND own.scope = 'computer' AND own.reservation_id = mine.id))
            UPDATE computer SET prepared = true, loaded_revision_id = %(revision)s
              FROM mine WHERE computer.id = %(computer)s RETURNING commit_soon()
            """,
            {
                "reservation": claim.reservation_id,
                "token": claim.token,
                "computer": computer_id,
                "revision": revision_id,
            },
        ).rowcount
    )


def tainted(conn: Connection, claim: Claim, computer_id: int) -> None:
    """From here on a user could have been in. Raises LeaseLost."""
    _held(
        conn.execute(
            """
            UPDATE computer SET tainted = true
              FROM reservation r WHERE computer.id = %s AND r.id = %s AND r.claim_token = %s
            """,
            [computer_id, claim.reservation_id, claim.token],
        ).rowcount
    )


def _held(changed: int) -> None:
    if not changed:
        raise LeaseLost
