"""What machines may fetch at their first boot: sealed with tokens, of which only the sums are kept."""

from __future__ import annotations

from vcl_provision.images.carriers.pull import Offer, OfferState
from vcl_provision.store.database import Connection


def offer(conn: Connection, one: Offer, *, seconds: float) -> None:
    """Makes it good for so long. A computer's older offers are withdrawn: its next machine replaces the one before."""
    conn.execute(
        """
        WITH gone AS (
            DELETE FROM firstboot_token WHERE token_sha256 <> %(token)s
               AND (computer_id = %(computer)s OR expires_at < vcl.now() - interval '1 day'))
        INSERT INTO firstboot_token (token_sha256, computer_id, mac, address, sealed, expires_at)
        VALUES (%(token)s, %(computer)s, %(mac)s, %(address)s, %(sealed)s, vcl.now() + %(seconds)s * interval '1 s')
            ON CONFLICT (token_sha256) DO UPDATE
           SET sealed = excluded.sealed, expires_at = excluded.expires_at, used_at = NULL
        """,
        {
            "token": one.token_sha256,
            "computer": one.computer_id,
            "mac": one.mac,
            "address": one.address or None,
            "sealed": one.sealed,
            "seconds": seconds,
        },
    )


def find(conn: Connection, token_sha256: bytes) -> tuple[Offer, OfferState] | None:
    """The offer with this token and whether it is good; one that was used is empty."""
    row = conn.execute(
        """
        SELECT computer_id, mac::text, coalesce(host(address), ''), coalesce(sealed, ''),
               CASE WHEN used_at IS NOT NULL THEN 'used' WHEN expires_at <= vcl.now() THEN 'late' ELSE 'good' END
          FROM firstboot_token WHERE token_sha256 = %s
        """,
        [token_sha256],
    ).fetchone()
    if row is None:
        return None
    computer_id, mac, address, sealed, state = row
    found = Offer(computer_id=computer_id, mac=mac, address=address, token_sha256=token_sha256, sealed=sealed)
    return found, OfferState(state)


def use(conn: Connection, token_sha256: bytes) -> bool:
    """Uses it up if it is good, for one of all who try at once; what was sealed is gone with it."""
    used = conn.execute(
        """
        UPDATE firstboot_token SET used_at = vcl.now(), sealed = NULL
         WHERE token_sha256 = %s AND used_at IS NULL AND expires_at > vcl.now()
        """,
        [token_sha256],
    )
    return used.rowcount == 1
