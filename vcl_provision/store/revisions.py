"""Image revisions as the database has them: what they are said to be, who needs them, how one is given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcl_provision.model.faults import Refused
from vcl_provision.store.catalogue import RevisionFile
from vcl_provision.store.database import Connection

_NEEDS = """
    SELECT v.name, 'computer ' || c.name || ', which holds it' AS who
      FROM image_revision v JOIN computer c ON c.loaded_revision_id = v.id
    UNION ALL
    SELECT v.name, format('request %s (%s)', q.id, u.name)
      FROM image_revision v
      JOIN reservation r ON r.image_revision_id = v.id AND r.released_at IS NULL
      JOIN request q ON q.id = r.request_id
      JOIN vcl_user u ON u.id = q.user_id
    UNION ALL
    SELECT v.name, format('image %s, whose users get it', i.name)
      FROM image_revision v JOIN image i ON i.id = v.image_id
     WHERE v.production AND v.deleted_at IS NULL AND i.deleted_at IS NULL
     ORDER BY name, who
"""


@dataclass(frozen=True, kw_only=True)
class CataloguedRevision:
    """A revision as the database has it. Without `files` it does not say what the revision consists of."""

    name: str
    image: str
    revision: int
    production: bool
    os: str
    os_module: str
    min_ram_mb: int
    min_cpus: int
    files: Sequence[RevisionFile]


def needed(conn: Connection) -> dict[str, list[str]]:
    """Who needs which revision, in words: computers that hold it, live requests, the image whose users get it."""
    needs: dict[str, list[str]] = {}
    for name, who in conn.execute(_NEEDS).fetchall():
        needs.setdefault(name, []).append(who)
    return needs


def catalogued(conn: Connection) -> list[CataloguedRevision]:
    """All revisions that are not given up, by name."""
    files: dict[str, list[RevisionFile]] = {}
    rows = conn.execute(
        """
        SELECT v.name, f.role, f.name, f.format, f.bytes, f.sha256, f.virtual_bytes
          FROM image_file f JOIN image_revision v ON v.id = f.image_revision_id ORDER BY v.name, f.position
        """
    )
    for revision, role, name, image_format, size, sha256, virtual_bytes in rows.fetchall():
        file = RevisionFile(
            role=role, name=name, format=image_format, bytes=size, sha256=sha256, virtual_bytes=virtual_bytes
        )
        files.setdefault(revision, []).append(file)
    rows = conn.execute(
        """
        SELECT v.name, i.name, v.revision, v.production, o.name, o.module, i.min_ram_mb, i.min_cpus
          FROM image_revision v JOIN image i ON i.id = v.image_id JOIN os o ON o.id = i.os_id
         WHERE v.deleted_at IS NULL AND i.deleted_at IS NULL ORDER BY v.name
        """
    )
    return [
        CataloguedRevision(
            name=name,
            image=image,
            revision=revision,
            production=production,
            os=os,
            os_module=module,
            min_ram_mb=ram,
            min_cpus=cpus,
            files=files.get(name, []),
        )
        for name, image, revision, production, os, module, ram, cpus in rows.fetchall()
    ]


def give_up(conn: Connection, name: str) -> None:
    """Marks a revision as deleted, so that nobody gets it any more. To be called in a transaction; unknown is fine.

    Raises Refused, naming who needs it.
    """
    conn.execute("SELECT id FROM image_revision WHERE name = %s FOR UPDATE", [name])
    holders = needed(conn).get(name)
    if holders:
        raise Refused(f"{name} is needed by {', '.join(holders)}", "wait until they are done, or give them another")
    conn.execute("UPDATE image_revision SET deleted_at = vcl.now() WHERE name = %s AND deleted_at IS NULL", [name])


def retire(conn: Connection, name: str) -> None:
    """Ends the image that this is the production revision of: nobody can reserve it any more. Unknown is fine."""
    conn.execute(
        """
        UPDATE image SET deleted_at = vcl.now()
         WHERE id = (SELECT image_id FROM image_revision WHERE name = %s AND production) AND deleted_at IS NULL
        """,
        [name],
    )
    conn.execute("UPDATE image_revision SET production = false WHERE name = %s", [name])


def repositories(conn: Connection) -> list[str]:
    """The addresses that VM profiles name, each once."""
    rows = conn.execute("SELECT DISTINCT repository_path FROM vm_profile WHERE repository_path <> '' ORDER BY 1")
    return [address for (address,) in rows.fetchall()]


def install_types(conn: Connection) -> list[str]:
    """What the provisioning modules of this lab can load."""
    rows = conn.execute("SELECT DISTINCT install_type FROM provisioning_install_type ORDER BY 1")
    return [install_type for (install_type,) in rows.fetchall()]
