"""VM hosts, and which contents of images the database counts on there."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from vcl_provision.model.lab import VmHost, VmProfile
from vcl_provision.store.database import Connection


def vm_hosts(conn: Connection, *, not_measured_for: float = 0.0) -> list[VmHost]:
    """All, by name; also those out of service, on which machines may still be.

    `not_measured_for`: only those whose disks were not measured in so many seconds.
    """
    question = """
        SELECT h.id AS host_id, h.name AS host, h.address AS host_address, h.module AS host_module,
               p.name AS profile, p.repository_path, p.datastore_path, p.vm_path, p.network, p.overrides, p.credentials,
               p.keep_free_mb
          FROM vm_host h JOIN vm_profile p ON p.id = h.vm_profile_id
         WHERE NOT EXISTS (SELECT FROM vm_host_disk d
                            WHERE d.vm_host_id = h.id AND d.measured_at > vcl.now() - make_interval(secs => %s))
         ORDER BY h.name
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(question, [not_measured_for]).fetchall()
    return [vm_host_of(row) for row in rows]


def vm_host_of(row: dict[str, Any]) -> VmHost:
    """Of a row that names its columns as `vm_hosts` does."""
    return VmHost(
        id=row["host_id"],
        name=row["host"],
        address=row["host_address"],
        provisioning_module=row["host_module"],
        profile=VmProfile(
            name=row["profile"],
            repository_path=row["repository_path"],
            datastore_path=row["datastore_path"],
            vm_path=row["vm_path"],
            network=row["network"],
            overrides=row["overrides"],
            credentials=row["credentials"],
            keep_free_mb=row["keep_free_mb"],
        ),
    )


def contents_counted_on(conn: Connection) -> set[str]:
    """SHA-256 of the files of all revisions that are not given up, that a computer holds, or that a request wants."""
    rows = conn.execute(
        """
        SELECT DISTINCT f.sha256 FROM image_file f JOIN image_revision v ON v.id = f.image_revision_id
         WHERE v.deleted_at IS NULL
            OR EXISTS (SELECT FROM computer c WHERE c.loaded_revision_id = v.id)
            OR EXISTS (SELECT FROM reservation r WHERE r.image_revision_id = v.id AND r.released_at IS NULL)
        """
    )
    return {sha256 for (sha256,) in rows.fetchall()}
