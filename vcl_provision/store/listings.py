"""What there is in the lab, as people ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from vcl_provision.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class ListedComputer:
    """A computer: what it does now, for whom, what it holds."""

    name: str
    state: str
    kind: str
    module: str
    host: str | None
    address: str
    ram_mb: int
    cpus: int
    holds: str | None
    request_id: int | None
    user: str | None
    next_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """An image and its production revision; `computers` is how many can run it, `reserved` how many do."""

    name: str
    revision: int
    revision_name: str
    os: str
    os_module: str
    min_ram_mb: int
    root_access: bool
    computers: int
    reserved: int


@dataclass(frozen=True, kw_only=True)
class ListedUser:
    """A user, and by which keys they get in."""

    name: str
    affiliation: str
    keys: Sequence[str]
    live_requests: int


def computers(conn: Connection) -> list[ListedComputer]:
    with conn.cursor(row_factory=class_row(ListedComputer)) as cursor:
        return cursor.execute(
            """
            SELECT c.name, c.state::text, c.kind, c.module, h.name AS host,
                   host(coalesce(c.public_address, c.private_address)) AS address, c.ram_mb, c.cpus, v.name AS holds,
                   has.request_id, u.name AS "user",
                   (SELECT min(lower(r.during)) FROM reservation r WHERE r.computer_id = c.id AND r.released_at IS NULL
                       AND lower(r.during) > vcl.now()) AS next_at
              FROM computer c
              LEFT JOIN vm_host h ON h.id = c.vm_host_id
              LEFT JOIN image_revision v ON v.id = c.loaded_revision_id
              LEFT JOIN reservation has ON has.computer_id = c.id AND has.occupies
              LEFT JOIN request q ON q.id = has.request_id
              LEFT JOIN vcl_user u ON u.id = q.user_id
             ORDER BY c.name
            """
        ).fetchall()


def images(conn: Connection) -> list[ListedImage]:
    with conn.cursor(row_factory=class_row(ListedImage)) as cursor:
        return cursor.execute(
            """
            SELECT i.name, v.revision, v.name AS revision_name, o.name AS os, o.module AS os_module, i.min_ram_mb,
                   i.root_access, (SELECT count(*) FROM computer c WHERE why_not(c, i) IS NULL) AS computers,
                   (SELECT count(*) FROM reservation r JOIN image_revision any_of ON any_of.id = r.image_revision_id
                     WHERE any_of.image_id = i.id AND r.released_at IS NULL) AS reserved
              FROM image i
              JOIN image_revision v ON v.image_id = i.id AND v.production
              JOIN os o ON o.id = i.os_id
             WHERE i.deleted_at IS NULL ORDER BY i.name
            """
        ).fetchall()


def users(conn: Connection) -> list[ListedUser]:
    with conn.cursor(row_factory=class_row(ListedUser)) as cursor:
        return cursor.execute(
            """
            SELECT u.name, a.name AS affiliation,
                   ARRAY(SELECT line FROM user_key k WHERE k.user_id = u.id ORDER BY k.id) AS keys,
                   (SELECT count(*) FROM request q WHERE q.user_id = u.id AND q.state NOT IN ('complete', 'failed'))
                       AS live_requests
              FROM vcl_user u JOIN affiliation a ON a.id = u.affiliation_id ORDER BY a.name, u.name
            """
        ).fetchall()
