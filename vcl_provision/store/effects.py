"""What was done outside and how it is undone: on disk before it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from vcl_provision.model.faults import LeaseLost
from vcl_provision.model.reservation import Claim, Effect
from vcl_provision.store.database import Connection

SCOPES = ("reservation", "computer")


def record_effect(
    conn: Connection,
    *,
    claim: Claim,
    computer_id: int,
    kind: str,
    module: str,
    scope: str,
    action: str,
    arguments: Mapping[str, object],
) -> None:
    """Writes down how to undo what comes next. Raises LeaseLost if the claim is another's by now.

    The same undo that is outstanding already is not written twice: a handler that runs again does not pile them up.
    """
    row = conn.execute(
        """
        WITH mine AS (SELECT id FROM reservation WHERE id = %(reservation)s AND claim_token = %(token)s),
        written AS (
            INSERT INTO effect (computer_id, reservation_id, kind, module, scope, action, arguments)
            SELECT %(computer)s, mine.id, %(kind)s, %(module)s, %(scope)s, %(action)s, %(arguments)s FROM mine
             WHERE NOT EXISTS (SELECT FROM effect e WHERE e.computer_id = %(computer)s AND e.undone_at IS NULL
                AND e.reservation_id = mine.id AND (e.kind, e.module, e.scope, e.action, e.arguments)
                    = (%(kind)s, %(module)s, %(scope)s, %(action)s, %(arguments)s)))
        SELECT count(*) FROM mine
        """,
        {
            "reservation": claim.reservation_id,
            "token": claim.token,
            "computer": computer_id,
            "kind": kind,
            "module": module,
            "scope": scope,
            "action": action,
            "arguments": Jsonb(dict(arguments)),
        },
    ).fetchone()
    if not row or not row[0]:
        raise LeaseLost


def outstanding(conn: Connection, *, computer_id: int, reservation_id: int, scope: str) -> list[Effect]:
    """What is to be undone, the newest first: of the `reservation`, or all that lies on its `computer`."""
    with conn.cursor(row_factory=class_row(Effect)) as cursor:
        return cursor.execute(
            """
            SELECT id, computer_id, reservation_id, kind, module, scope, action, arguments FROM effect
             WHERE computer_id = %s AND undone_at IS NULL
               AND (%s = 'computer' OR scope = 'reservation' AND reservation_id = %s)
             ORDER BY id DESC
            """,
            [computer_id, scope, reservation_id],
        ).fetchall()


def mark_undone(conn: Connection, claim: Claim, ids: Sequence[int]) -> None:
    """They are undone, and a computer of which an effect of its own was undone holds nothing any more.

    Raises LeaseLost: who slept through the lease would otherwise forget what another node has loaded there since.
    """
    row = conn.execute(
        """
        WITH mine AS (SELECT id FROM reservation WHERE id = %s AND claim_token = %s FOR UPDATE),
        undone AS (
            UPDATE effect SET undone_at = vcl.now() FROM mine WHERE effect.id = ANY(%s) AND undone_at IS NULL
            RETURNING computer_id, scope, kind),
        emptied AS (
            UPDATE computer SET loaded_revision_id = NULL, prepared = false, tainted = false, host_key = ''
              FROM undone
             WHERE computer.id = undone.computer_id AND undone.scope = 'computer' AND undone.kind = 'provisioning')
        SELECT count(*), commit_soon() FROM mine
        """,
        [claim.reservation_id, claim.token, list(ids)],
    ).fetchone()
    if not row or not row[0]:
        raise LeaseLost


def undo_failed(conn: Connection, effect_id: int, said: str) -> None:
    """It could not be undone now; it is tried again, and people see why."""
    conn.execute("UPDATE effect SET attempts = attempts + 1, last_error = %s WHERE id = %s", [said, effect_id])
