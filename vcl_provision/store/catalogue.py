"""What a lab consists of, put in: images, VM hosts, computers, people. What is there already is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from vcl_provision.model.faults import Refused
from vcl_provision.model.lab import VmProfile
from vcl_provision.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class RevisionFile:
    """What a revision consists of, one part: a disk by its role, or `kernel` and `initrd`, which no guest sees."""

    role: str
    name: str
    format: str
    bytes: int
    sha256: str
    virtual_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image and the revision that is to be its production one: `revision_name` is its name in the repository.

    `parent` names the revision that it was made from, `origin` the machine that it was captured from.
    """

    name: str
    revision: int
    revision_name: str
    os: str
    os_module: str
    install_type: str
    min_ram_mb: int = 512
    min_cpus: int = 1
    root_access: bool = False
    load_seconds: int = 600
    parent: str = ""
    origin: str = ""
    captured_at: datetime | None = None
    files: Sequence[RevisionFile] = ()


@dataclass(frozen=True, kw_only=True)
class NewComputer:
    """A virtual machine's slot on a VM host."""

    name: str
    host: str
    module: str
    private_address: str
    mac: str
    ram_mb: int = 1024


def put_host(
    conn: Connection, *, name: str, address: str, module: str, profile: VmProfile, install_types: Sequence[str]
) -> None:
    """A VM host with its profile, and what its module can load."""
    conn.execute("INSERT INTO module (kind, name) VALUES ('provisioning', %s) ON CONFLICT DO NOTHING", [module])
    for install_type in install_types:
        conn.execute(
            "INSERT INTO provisioning_install_type (module, install_type) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [module, install_type],
        )
    conn.execute(
        """
        INSERT INTO vm_host (name, address, vm_profile_id, module) VALUES (%s, %s, %s, %s)
        ON CONFLICT (name) DO UPDATE
        SET address = excluded.address, vm_profile_id = excluded.vm_profile_id, module = excluded.module
        """,
        [name, address, _put_profile(conn, profile), module],
    )


def put_computer(conn: Connection, computer: NewComputer) -> None:
    """Raises psycopg's errors for an address, a name or a MAC that is taken."""
    conn.execute(
        """
        INSERT INTO computer (name, module, vm_host_id, private_address, mac, ram_mb)
        VALUES (%s, %s, (SELECT id FROM vm_host WHERE name = %s), %s, %s, %s)
        ON CONFLICT (name) DO UPDATE
        SET module = excluded.module, vm_host_id = excluded.vm_host_id, private_address = excluded.private_address,
            mac = excluded.mac, ram_mb = excluded.ram_mb
        """,
        [computer.name, computer.module, computer.host, computer.private_address, computer.mac, computer.ram_mb],
    )


def put_image(conn: Connection, image: NewImage) -> None:
    """The image, and this revision as the one in production. To be called in a transaction."""
    conn.execute("INSERT INTO module (kind, name) VALUES ('os', %s) ON CONFLICT DO NOTHING", [image.os_module])
    rows = conn.execute(
        """
        WITH os AS (
            INSERT INTO os (name, module) VALUES (%(os)s, %(os_module)s)
            ON CONFLICT (name) DO UPDATE SET module = excluded.module RETURNING id)
        INSERT INTO image (name, os_id, install_type, min_ram_mb, min_cpus, root_access, load_seconds)
        SELECT %(name)s, os.id, %(install_type)s, %(min_ram_mb)s, %(min_cpus)s, %(root_access)s, %(load_seconds)s
          FROM os
        ON CONFLICT (name) DO UPDATE
        SET os_id = excluded.os_id, install_type = excluded.install_type, min_ram_mb = excluded.min_ram_mb,
            min_cpus = excluded.min_cpus, root_access = excluded.root_access, load_seconds = excluded.load_seconds,
            deleted_at = NULL
        RETURNING id
        """,
        {**asdict(image), "files": None},
    ).fetchall()
    (image_id,) = rows[0]
    conn.execute(
        "UPDATE image_revision SET production = false WHERE image_id = %s AND production AND revision <> %s",
        [image_id, image.revision],
    )
    revisions = conn.execute(
        """
        INSERT INTO image_revision (image_id, revision, name, production, parent_id, origin, captured_at)
        VALUES (%s, %s, %s, true, (SELECT id FROM image_revision WHERE name = %s), %s, %s)
        ON CONFLICT (image_id, revision) DO UPDATE SET production = true, deleted_at = NULL
        RETURNING id
        """,
        [image_id, image.revision, image.revision_name, image.parent, image.origin, image.captured_at],
    ).fetchall()
    _put_files(conn, revisions[0][0], image.files)


def _put_files(conn: Connection, revision_id: int, files: Sequence[RevisionFile]) -> None:
    """In the place of those that were written down before: a revision's descriptor never changes."""
    if not files:
        return
    conn.execute("DELETE FROM image_file WHERE image_revision_id = %s", [revision_id])
    for position, file in enumerate(files):
        conn.execute(
            """
            INSERT INTO image_file (image_revision_id, position, role, name, format, bytes, sha256, virtual_bytes)
            VALUES (%(revision)s, %(position)s, %(role)s, %(name)s, %(format)s, %(bytes)s, %(sha256)s,
                    %(virtual_bytes)s)
            """,
            {**asdict(file), "revision": revision_id, "position": position},
        )


def put_user(conn: Connection, name: str, *, keys: Sequence[str], affiliation: str = "Local") -> int:
    """The user's id; keys are added to those that they have.

    Raises Refused for an unknown affiliation, psycopg's errors for a name or key that cannot be.
    """
    row = conn.execute(
        """
        INSERT INTO vcl_user (name, affiliation_id) SELECT %(name)s, id FROM affiliation WHERE name = %(affiliation)s
        ON CONFLICT (name, affiliation_id) DO UPDATE SET name = excluded.name RETURNING id
        """,
        {"name": name, "affiliation": affiliation},
    ).fetchone()
    if row is None:
        raise Refused(f"there is no affiliation {affiliation!r}", "add it to the table affiliation")
    (user_id,) = row
    for key in keys:
        conn.execute(
            "INSERT INTO user_key (user_id, line) VALUES (%s, %s) ON CONFLICT DO NOTHING", [user_id, key.strip()]
        )
    return user_id


def _put_profile(conn: Connection, profile: VmProfile) -> int:
    rows = conn.execute(
        """
        INSERT INTO vm_profile (name, repository_path, datastore_path, vm_path, network, overrides, credentials)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (name) DO UPDATE
        SET repository_path = excluded.repository_path, datastore_path = excluded.datastore_path,
            vm_path = excluded.vm_path, network = excluded.network, overrides = excluded.overrides,
            credentials = excluded.credentials
        RETURNING id
        """,
        [
            profile.name,
            profile.repository_path,
            profile.datastore_path,
            profile.vm_path,
            profile.network,
            Jsonb(dict(profile.overrides)),
            profile.credentials,
        ],
    ).fetchall()
    return rows[0][0]
