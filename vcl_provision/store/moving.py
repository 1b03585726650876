"""A reservation leaves the computer of a VM host without room, and stands in the queue again: all of it, or nothing."""

from __future__ import annotations

from vcl_provision.model.reservation import Claim
from vcl_provision.model.states import Event
from vcl_provision.store.database import Connection
from vcl_provision.store.rules import Rules
from vcl_provision.store.siblings import locked


def leave(conn: Connection, claim: Claim, *, host_id: int, because: str, rules: Rules) -> bool:
    """Gives claim and computer back; the computer is free, and whoever gives out computers knows to avoid the host.

    False, and nothing is changed, if no computer in service on a host that has not refused it could be its (a request
    for one certain computer has no other), or if the request changed meanwhile. Raises LeaseLost, NotAllowed.
    """
    rules.advance(claim.state, Event.MOVED)
    with conn.transaction():
        if locked(conn, claim) is not claim.state:
            return False
        asked = {"reservation": claim.reservation_id, "host": host_id, "because": because.replace("\x00", "")}
        return conn.execute(_LEAVE, asked).fetchone() is not None


_LEAVE = """
    WITH mine AS (
        SELECT r.id, r.request_id, r.computer_id, h.name AS host
          FROM reservation r JOIN request q ON q.id = r.request_id JOIN vm_host h ON h.id = %(host)s
         WHERE r.id = %(reservation)s AND q.computer_id IS NULL AND EXISTS (
               SELECT FROM image_revision v
                 JOIN fit ON fit.image_id = v.image_id JOIN computer c ON c.id = fit.computer_id
                WHERE v.id = r.image_revision_id AND fit.in_service AND c.vm_host_id IS DISTINCT FROM h.id
                  AND NOT EXISTS (SELECT FROM vm_host_refusal n
                                   WHERE n.reservation_id = r.id AND n.vm_host_id = c.vm_host_id))),
    refused AS (
        INSERT INTO vm_host_refusal (reservation_id, vm_host_id, computer_id)
        SELECT id, %(host)s, computer_id FROM mine ON CONFLICT DO NOTHING RETURNING reservation_id),
    gone AS (
        UPDATE reservation r SET computer_id = NULL, occupies = false, attempts = 0, due_at = vcl.now(),
               claim_token = NULL, claimed_by = NULL, claimed_at = NULL, lease_until = NULL,
               waiting_because = mine.host || ' had no room for it: another computer is looked for'
          FROM mine JOIN refused ON refused.reservation_id = mine.id WHERE r.id = mine.id
        RETURNING r.id, r.request_id, mine.computer_id, mine.host),
    freed AS (
        UPDATE computer c SET state = 'available' FROM gone
         WHERE c.id = gone.computer_id AND c.state NOT IN ('failed', 'maintenance', 'vmhostinuse')),
    told AS (
        INSERT INTO journal (request_id, reservation_id, computer_id, kind, said)
        SELECT request_id, id, computer_id, 'note', concat(host, ' had no room for it: ', %(because)s::text) FROM gone)
    SELECT pg_notify('vcl_due', 'queue') FROM gone
"""
