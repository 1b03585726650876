"""What the database knows of image revisions: who needs them, what they consist of, how they are given up."""

from __future__ import annotations

import psycopg
import pytest
from a_lab import Lab, a_lab

from vcl_provision.model.faults import Refused
from vcl_provision.store import catalogue, revisions
from vcl_provision.store.catalogue import NewImage, RevisionFile
from vcl_provision.store.database import Connection

FILES = [
    RevisionFile(role="system", name="system", format="qcow2", bytes=10, sha256="a" * 64, virtual_bytes=1 << 30),
    RevisionFile(role="application", name="application", format="raw", bytes=5, sha256="b" * 64, virtual_bytes=512),
    RevisionFile(role="kernel", name="kernel", format="raw", bytes=2, sha256="c" * 64),
]


def an_image(number: int, **changes: object) -> NewImage:
    said: dict[str, object] = {
        "name": "parts",
        "revision": number,
        "revision_name": f"parts-v{number}",
        "os": "Debian 12",
        "os_module": "linux",
        "install_type": "sim",
        "files": FILES,
    }
    return NewImage(**{**said, **changes})  # type: ignore[arg-type]


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


def test_a_revision_is_read_as_it_was_put_in(conn: Connection, lab: Lab) -> None:
    with conn.transaction():
        catalogue.put_image(conn, an_image(1))
        catalogue.put_image(conn, an_image(2, parent="parts-v1", origin="vm7", min_cpus=2))
    rows = {row.name: row for row in revisions.catalogued(conn)}
    assert (rows["parts-v1"].production, rows["parts-v2"].production) == (False, True)
    assert list(rows["parts-v2"].files) == FILES
    assert (rows["parts-v2"].min_cpus, rows["parts-v2"].os_module) == (2, "linux")
    parent = "SELECT p.name, v.origin FROM vcl.image_revision v JOIN vcl.image_revision p ON p.id = v.parent_id"
    assert conn.execute(parent.encode()).fetchall() == [("parts-v1", "vm7")]


def test_an_image_has_one_system_disk_and_its_roles_are_known(conn: Connection, lab: Lab) -> None:
    with conn.transaction():
        catalogue.put_image(conn, an_image(1))
    for role in ("system", "disk", "swap"):
        with pytest.raises(psycopg.IntegrityError):
            conn.execute(
                "INSERT INTO image_file (image_revision_id, role, name, format, bytes, sha256) "
                "SELECT id, %s, 'more', 'raw', 1, repeat('d', 64) FROM image_revision WHERE name = 'parts-v1'",
                [role],
            )


def test_who_needs_a_revision_is_said_and_keeps_it(conn: Connection, lab: Lab) -> None:
    with conn.transaction():
        for number in (1, 2, 3):
            catalogue.put_image(conn, an_image(number))
    held = "(SELECT id FROM image_revision WHERE name = 'parts-v1')"
    conn.execute(f"UPDATE computer SET loaded_revision_id = {held} WHERE id = %s".encode(), [lab.computers[0]])
    (name,) = conn.execute("SELECT name FROM computer WHERE id = %s", [lab.computers[0]]).fetchall()[0]
    needs = revisions.needed(conn)
    assert needs["parts-v1"] == [f"computer {name}, which holds it"]
    assert needs["parts-v3"] == ["image parts, whose users get it"]
    assert "parts-v2" not in needs
    for kept in ("parts-v1", "parts-v3"):
        with pytest.raises(Refused, match=f"{kept} is needed by"):
            revisions.give_up(conn, kept)
    revisions.give_up(conn, "parts-v2")
    revisions.give_up(conn, "parts-v2")
    revisions.give_up(conn, "nobody-knows-v1")
    assert "parts-v2" not in {row.name for row in revisions.catalogued(conn)}


def test_an_image_that_is_retired_can_be_given_up_and_not_be_reserved(conn: Connection, lab: Lab) -> None:
    with conn.transaction():
        catalogue.put_image(conn, an_image(1))
    revisions.retire(conn, "parts-v1")
    revisions.give_up(conn, "parts-v1")
    with pytest.raises(psycopg.Error, match='no image named "parts"'):
        conn.execute("SELECT image_named('parts')")
    with conn.transaction():
        catalogue.put_image(conn, an_image(2))
    assert conn.execute("SELECT image_named('parts')").fetchall()


def test_a_live_request_needs_its_revision(conn: Connection, lab: Lab) -> None:
    name = conn.execute("SELECT v.name FROM image_revision v WHERE v.production LIMIT 1").fetchall()[0][0]
    (request,) = conn.execute(
        "INSERT INTO request (user_id, image_id) SELECT u.id, v.image_id FROM vcl_user u, image_revision v "
        "WHERE v.name = %s LIMIT 1 RETURNING id",
        [name],
    ).fetchall()[0]
    assert any(who.startswith(f"request {request} (") for who in revisions.needed(conn)[name])
