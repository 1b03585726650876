"""Masters on their way to VM hosts: how much room is spoken for, by work that is still claimed."""

from __future__ import annotations

from vcl_provision.model.faults import LeaseLost
from vcl_provision.model.reservation import Claim
from vcl_provision.store.database import Connection


def begin(conn: Connection, claim: Claim, *, host_id: int, size: int) -> int:
    """Says that so many bytes are to come to a host; the number is higher than that of any that can be seen or will be.

    What was left by work that died goes. Raises LeaseLost if the claim is not held any more.
    """
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('transfers to ' || %s, 0))", [host_id])
        conn.execute(
            """
            DELETE FROM vm_host_transfer t WHERE t.vm_host_id = %s AND NOT EXISTS (
                SELECT FROM reservation r WHERE r.id = t.reservation_id AND r.claim_token = t.claim_token)
            """,
            [host_id],
        )
        row = conn.execute(
            """
            INSERT INTO vm_host_transfer (vm_host_id, reservation_id, claim_token, bytes)
            SELECT %(host)s, r.id, r.claim_token, %(size)s FROM reservation r
             WHERE r.id = %(reservation)s AND r.claim_token = %(token)s RETURNING id
            """,
            {"host": host_id, "size": size, "reservation": claim.reservation_id, "token": claim.token},
        ).fetchone()
    if row is None:
        raise LeaseLost
    return row[0]


def before(conn: Connection, number: int) -> int:
    """Bytes of those to the same host that began before this one and are under way."""
    rows = conn.execute(
        """
        SELECT coalesce(sum(t.bytes), 0)::bigint
          FROM vm_host_transfer mine
          JOIN vm_host_transfer t ON t.vm_host_id = mine.vm_host_id AND t.id < mine.id
          JOIN reservation r ON r.id = t.reservation_id AND r.claim_token = t.claim_token
         WHERE mine.id = %s
        """,
        [number],
    ).fetchall()
    return rows[0][0]


def end(conn: Connection, number: int) -> None:
    """It is there, or will not come."""
    conn.execute("DELETE FROM vm_host_transfer WHERE id = %s", [number])
