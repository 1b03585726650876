"""Everything that one turn needs to know, asked in one statement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from vcl_provision.model.faults import LeaseLost
from vcl_provision.model.lab import Computer, ConnectMethod, ConnectPort, Revision, User
from vcl_provision.model.reservation import Claim, Request, Reservation, Timings
from vcl_provision.model.secret import Secret
from vcl_provision.model.states import ComputerKind, ComputerState, RequestState
from vcl_provision.store.database import Connection
from vcl_provision.store.vm_hosts import vm_host_of

SSH = (ConnectMethod(name="ssh", ports=(ConnectPort(protocol="tcp", port=22),)),)
"""How users get into machines whose image says nothing else."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The lab as one claim sees it, at one moment of the database's clock."""

    lab_id: UUID
    request: Request
    reservation: Reservation
    computer: Computer
    revision: Revision
    user: User
    now: datetime
    asked_at: datetime
    """When all of it was asked; what changes seldom (image, user, host, timings) is as it was then."""


def gather(conn: Connection, claim: Claim, timings: Timings) -> Gathered | None:
    """What the claim's turn needs; None if the claim is not held any more. `timings` where the database has none."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_QUESTION, {"reservation": claim.reservation_id, "token": claim.token}).fetchone()
    return None if row is None else _gathered(row, timings)


_QUESTION = """
    SELECT vcl.now() AS now, (SELECT id FROM lab) AS lab_id,
           q.id AS request_id, q.state, q.last_state, q.start_time, q.end_time, q.remote_address, q.acknowledged_at,
           q.machines,
           r.id AS reservation_id, r.state_since, r.occupies, r.attempts, r.granted_address, r.connected_at,
           r.last_seen_at, r.notices_sent,
           q.machines = 1 OR NOT EXISTS (
               SELECT FROM reservation o WHERE o.request_id = q.id AND o.id < r.id) AS parent,
           c.id AS computer_id, c.name AS computer, c.kind, c.state AS computer_state, c.module, c.private_address,
           c.public_address, c.mac, c.ram_mb, c.cpus, c.host_key, c.loaded_revision_id, c.prepared, c.tainted,
           h.id AS host_id, h.name AS host, h.address AS host_address, h.module AS host_module,
           p.name AS profile, p.repository_path, p.datastore_path, p.vm_path, p.network, p.overrides, p.credentials,
           p.keep_free_mb,
           v.id AS revision_id, v.revision, v.name AS revision_name, v.production,
           i.id AS image_id, i.name AS image, i.min_ram_mb, i.min_cpus, i.root_access, i.set_hostname, i.check_user,
           i.load_seconds, os.name AS os, os.module AS os_module,
           u.id AS user_id, u.name AS "user", u.uid, a.name AS affiliation,
           ARRAY(SELECT line FROM user_key k WHERE k.user_id = u.id ORDER BY k.id) AS keys,
           (SELECT password FROM reservation_password w WHERE w.reservation_id = r.id) AS password,
           (SELECT json_agg(json_build_object('name', m.name, 'service', m.service, 'ports', (
                SELECT json_agg(json_build_object('protocol', t.protocol, 'port', t.port) ORDER BY t.port, t.protocol)
                  FROM connect_method_port t WHERE t.connect_method_id = m.id)) ORDER BY m.name)
              FROM image_connect_method im JOIN connect_method m ON m.id = im.connect_method_id
             WHERE im.image_id = i.id) AS methods,
           (SELECT json_object_agg(name, seconds) FROM (
                SELECT DISTINCT ON (name) name, seconds FROM timing
                 WHERE affiliation_id IS NULL OR affiliation_id = a.id ORDER BY name, affiliation_id NULLS LAST) t
           ) AS timings
      FROM reservation r
      JOIN request q ON q.id = r.request_id
      JOIN computer c ON c.id = r.computer_id
      LEFT JOIN vm_host h ON h.id = c.vm_host_id
      LEFT JOIN vm_profile p ON p.id = h.vm_profile_id
      JOIN image_revision v ON v.id = r.image_revision_id
      JOIN image i ON i.id = v.image_id
      JOIN os ON os.id = i.os_id
      JOIN vcl_user u ON u.id = q.user_id
      JOIN affiliation a ON a.id = u.affiliation_id
     WHERE r.id = %(reservation)s AND r.claim_token = %(token)s
"""


def moved(known: Gathered, row: dict[str, Any]) -> Gathered:
    """What was known, with what the statement that moved the request says of it: all that work itself changes."""
    same = {"request_id": known.request.id, "reservation_id": known.reservation.id, "machines": 1, "parent": True}
    return replace(
        known,
        request=_request(row | same, known.request.timings),
        reservation=_reservation(row | same),
        computer=replace(
            known.computer,
            state=ComputerState(row["computer_state"]),
            host_key=row["host_key"],
            loaded_revision_id=row["loaded_revision_id"],
            prepared=row["prepared"],
            tainted=row["tainted"],
        ),
        now=row["now"],
    )


def _gathered(row: dict[str, Any], timings: Timings) -> Gathered:
    return Gathered(
        lab_id=row["lab_id"],
        request=_request(row, replace(timings, **(row["timings"] or {}))),
        reservation=_reservation(row),
        computer=_computer(row),
        revision=_revision(row),
        user=_user(row),
        now=row["now"],
        asked_at=row["now"],
    )


def _request(row: dict[str, Any], timings: Timings) -> Request:
    return Request(
        id=row["request_id"],
        state=RequestState(row["state"]),
        last_state=RequestState(row["last_state"]),
        start_time=row["start_time"],
        end_time=row["end_time"],
        remote_address=row["remote_address"],
        acknowledged_at=row["acknowledged_at"],
        reservations=row["machines"],
        timings=timings,
    )


def _reservation(row: dict[str, Any]) -> Reservation:
    return Reservation(
        id=row["reservation_id"],
        request_id=row["request_id"],
        parent=row["parent"],
        state_since=row["state_since"],
        occupies=row["occupies"],
        attempts=row["attempts"],
        granted_address=row["granted_address"],
        connected_at=row["connected_at"],
        last_seen_at=row["last_seen_at"],
        notices_sent=row["notices_sent"],
    )


def _computer(row: dict[str, Any]) -> Computer:
    return Computer(
        id=row["computer_id"],
        name=row["computer"],
        kind=ComputerKind(row["kind"]),
        state=ComputerState(row["computer_state"]),
        provisioning_module=row["module"],
        private_address=row["private_address"],
        public_address=row["public_address"],
        mac=row["mac"] or "",
        ram_mb=row["ram_mb"],
        cpus=row["cpus"],
        host=None if row["host_id"] is None else vm_host_of(row),
        host_key=row["host_key"],
        loaded_revision_id=row["loaded_revision_id"],
        prepared=row["prepared"],
        tainted=row["tainted"],
    )


def _revision(row: dict[str, Any]) -> Revision:
    return Revision(
        id=row["revision_id"],
        image_id=row["image_id"],
        image=row["image"],
        revision=row["revision"],
        name=row["revision_name"],
        os=row["os"],
        os_module=row["os_module"],
        min_ram_mb=row["min_ram_mb"],
        min_cpus=row["min_cpus"],
        production=row["production"],
        sudo=row["root_access"],
        set_hostname=row["set_hostname"],
        check_user=row["check_user"],
        load_seconds=row["load_seconds"],
        connect_methods=tuple(_method(method) for method in row["methods"]) if row["methods"] else SSH,
    )


def _method(method: dict[str, Any]) -> ConnectMethod:
    ports = tuple(ConnectPort(protocol=port["protocol"], port=port["port"]) for port in method["ports"] or ())
    return ConnectMethod(name=method["name"], service=method["service"], ports=ports)


def _user(row: dict[str, Any]) -> User:
    return User(
        id=row["user_id"],
        name=row["user"],
        affiliation=row["affiliation"],
        keys=tuple(row["keys"]),
        password=Secret(row["password"]) if row["password"] else None,
        uid=row["uid"],
    )


def keep_password(conn: Connection, claim: Claim, password: Secret) -> Secret:
    """The password of a reservation whose user has no key: this one, or the one it already has. Raises LeaseLost."""
    row = conn.execute(
        """
        INSERT INTO reservation_password (reservation_id, password)
        SELECT id, %s FROM reservation WHERE id = %s AND claim_token = %s
        ON CONFLICT (reservation_id) DO UPDATE SET password = reservation_password.password RETURNING password
        """,
        [password.reveal(), claim.reservation_id, claim.token],
    ).fetchone()
    if row is None:
        raise LeaseLost
    return Secret(row[0])
