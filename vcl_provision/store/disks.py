"""Room on VM hosts as it was measured: written down by vcld, seen by people and by who gives out computers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from vcl_provision.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A disk of a VM host, in bytes; `holds` masters or machines. With less than `least` free it takes nothing more."""

    host_id: int
    holds: str
    path: str
    total: int
    free: int
    least: int


@dataclass(frozen=True, kw_only=True)
class ListedHost:
    """A VM host: what lies where, in bytes, when that was measured (None: never), and why loads are refused now.

    `coming` is of masters on their way there. `refused` is empty if loads are not; `masters_full` and `machines_full`
    say which disk.
    """

    name: str
    module: str
    address: str
    profile: str
    in_service: bool
    computers: int
    keep_free_mb: int | None
    masters_path: str
    masters_free: int | None
    masters_total: int | None
    masters_full: bool
    machines_path: str
    machines_free: int | None
    machines_total: int | None
    machines_full: bool
    coming: int
    measured_at: datetime | None
    refused: str


def put_measured(conn: Connection, measured: Sequence[Measured]) -> None:
    """As they are now, in one statement."""
    conn.execute(
        """
        WITH said AS (
            INSERT INTO vm_host_disk (vm_host_id, holds, path, total_bytes, free_bytes, least_bytes)
            SELECT m.host, m.holds, m.path, m.total, m.free, m.least
              FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])
                   AS m (host, holds, path, total, free, least)
              JOIN vm_host h ON h.id = m.host
            ON CONFLICT (vm_host_id, holds) DO UPDATE
               SET path = excluded.path, total_bytes = excluded.total_bytes, free_bytes = excluded.free_bytes,
                   least_bytes = excluded.least_bytes, measured_at = excluded.measured_at)
        SELECT commit_soon()
        """,
        [
            [each.host_id for each in measured],
            [each.holds for each in measured],
            [each.path for each in measured],
            [each.total for each in measured],
            [each.free for each in measured],
            [each.least for each in measured],
        ],
    )


def hosts(conn: Connection) -> list[ListedHost]:
    """All VM hosts, by name."""
    with conn.cursor(row_factory=class_row(ListedHost)) as cursor:
        return cursor.execute(
            """
            SELECT h.name, h.module, h.address, p.name AS profile, h.in_service, p.keep_free_mb,
                   (SELECT count(*) FROM computer c WHERE c.vm_host_id = h.id) AS computers,
                   coalesce(masters.path, p.datastore_path) AS masters_path, masters.free_bytes AS masters_free,
                   masters.total_bytes AS masters_total, masters.is_full IS TRUE AS masters_full,
                   coalesce(machines.path, p.vm_path) AS machines_path, machines.free_bytes AS machines_free,
                   machines.total_bytes AS machines_total, machines.is_full IS TRUE AS machines_full,
                   (SELECT coalesce(sum(t.bytes), 0)::bigint FROM vm_host_transfer t
                      JOIN reservation r ON r.id = t.reservation_id AND r.claim_token = t.claim_token
                     WHERE t.vm_host_id = h.id) AS coming,
                   least(masters.measured_at, machines.measured_at) AS measured_at,
                   CASE WHEN machines.is_full
                        THEN format('%s has %s MB free, and %s must be for another machine', machines.path,
                                    machines.free_bytes >> 20, machines.least_bytes >> 20)
                        WHEN masters.is_full
                        THEN format('%s has %s MB free, of which %s stay free: only images that lie there already',
                                    masters.path, masters.free_bytes >> 20, masters.least_bytes >> 20)
                        ELSE '' END AS refused
              FROM vm_host h JOIN vm_profile p ON p.id = h.vm_profile_id
              LEFT JOIN vm_host_disk masters ON masters.vm_host_id = h.id AND masters.holds = 'masters'
              LEFT JOIN vm_host_disk machines ON machines.vm_host_id = h.id AND machines.holds = 'machines'
             ORDER BY h.name
            """
        ).fetchall()
