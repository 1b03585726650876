"""A small lab in a database, and what people ask of it: what tests and benchmarks begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Json

from vcl_provision.model.reservation import Claim, Timings
from vcl_provision.store import allocation, claims, nodes
from vcl_provision.store import computers as computers_of_the_lab
from vcl_provision.store.database import Connection
from vcl_provision.store.rules import Rules
from vcl_provision.store.work import gather
from vcl_provision.workflow import lifecycle

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEiIyPZKQbHRWmA0yNkFe5XTZOlJ4rAFLL0WcNyFOoPE alice@example.org"

RULES = Rules(
    advance=lifecycle.advance,
    combined=lifecycle.combined,
    is_enough=lifecycle.is_enough,
    computer_state=lifecycle.COMPUTER_STATE.__getitem__,
    ending=lifecycle.ending,
)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Ids of what was made."""

    user_id: int
    image_id: int
    revision_id: int
    profile_id: int
    host_id: int
    computers: list[int]


def a_lab(
    conn: Connection,
    *,
    computers: int = 4,
    module: str = "sim",
    os_module: str = "sim",
    install_type: str = "",
    image: str = "debian12",
    user: str = "alice",
    keys: tuple[str, ...] = (KEY,),
    address: str = "host-1",
    profile: Mapping[str, object] | None = None,
    network: str = "10.20.0.0",
) -> Lab:
    """One VM host with computers `vcl-1`, `vcl-2`, ...; one image, revision 0 in production; one user.

    `address` is the VM host's, `profile` has columns of vm_profile, `network` is the one of the computers' addresses.
    """
    install_type = install_type or module
    _module(conn, module, os_module, install_type)
    image_id, revision_id = an_image(conn, image, os_module=os_module, install_type=install_type)
    profile_id = _insert(conn, "vm_profile", **_profile(profile or {}))
    host_id = _insert(conn, "vm_host", name="host-1", address=address, vm_profile_id=profile_id, module=module)
    made = conn.execute(
        """
        INSERT INTO computer (name, module, vm_host_id, private_address, mac)
        SELECT 'vcl-' || n, %s, %s, %s::inet + 9 + n, ('52:54:00' || regexp_replace(lpad(to_hex(n), 6, '0'),
               '(..)(..)(..)', ':\\1:\\2:\\3'))::macaddr FROM generate_series(1, %s) AS n RETURNING id
        """,
        [module, host_id, network, computers],
    ).fetchall()
    return Lab(
        user_id=a_user(conn, user, keys=keys),
        image_id=image_id,
        revision_id=revision_id,
        profile_id=profile_id,
        host_id=host_id,
        computers=[row[0] for row in made],
    )


def an_image(
    conn: Connection, name: str, *, os_module: str = "sim", install_type: str = "sim", **columns: object
) -> tuple[int, int]:
    """An image of which revision 0 is in production; `columns` of the table image. (image, revision)."""
    conn.execute("INSERT INTO os (name, module) VALUES (%s, %s) ON CONFLICT DO NOTHING", [os_module, os_module])
    os_id = conn.execute("SELECT id FROM os WHERE name = %s", [os_module]).fetchall()[0][0]
    image_id = _insert(conn, "image", name=name, os_id=os_id, install_type=install_type, **columns)
    revision_id = _insert(conn, "image_revision", image_id=image_id, revision=0, name=f"{name}-v0", production=True)
    return image_id, revision_id


def a_user(conn: Connection, name: str, *, keys: tuple[str, ...] = (), affiliation: str = "Local") -> int:
    """A user of an affiliation, which is made if there is none of that name."""
    conn.execute("INSERT INTO affiliation (name) VALUES (%s) ON CONFLICT DO NOTHING", [affiliation])
    affiliation_id = conn.execute("SELECT id FROM affiliation WHERE name = %s", [affiliation]).fetchall()[0][0]
    user_id = _insert(conn, "vcl_user", name=name, affiliation_id=affiliation_id)
    for line in keys:
        _insert(conn, "user_key", user_id=user_id, line=line)
    return user_id


def a_request(conn: Connection, lab: Lab, **columns: object) -> int:
    """What a front end inserts, with what it leaves out left out. Times may be SQL: `start_time=sql.SQL("...")`."""
    return _insert(conn, "request", **{"user_id": lab.user_id, "image_id": lab.image_id, **columns})


def allocated(conn: Connection, request_id: int, *computers: int) -> list[int]:
    """Gives the request's reservations these computers; their ids."""
    rows = conn.execute("SELECT id FROM reservation WHERE request_id = %s ORDER BY id", [request_id]).fetchall()
    reservations: list[int] = [row[0] for row in rows]
    allocation.assign(conn, list(zip(reservations, computers, strict=True)))
    return reservations


def claimed(conn: Connection, lab: Lab, *, node: str = "node-1", columns: Mapping[str, object] | None = None) -> Claim:
    """A claim of a new request of one machine, on the lab's first computer; `columns` of the table request."""
    request_id = a_request(conn, lab, **(columns or {}))
    allocated(conn, request_id, lab.computers[0])
    return next(claim for claim in claim_all(conn, node=node) if claim.request_id == request_id)


def occupied(conn: Connection, claim: Claim) -> Claim:
    """The same claim, once its reservation has taken the computer."""
    gathered = gather(conn, claim, Timings())
    assert gathered is not None
    assert computers_of_the_lab.occupy(conn, claim, gathered.computer)
    return claim


def claim_all(conn: Connection, *, node: str = "node-1", lease: float = 60.0) -> list[Claim]:
    """All that is due, as a node of this name."""
    node_id = nodes.register_node(conn, node)
    return claims.claim_due(conn, node_id=node_id, limit=100, lease_seconds=lease, per_host=100, busy={}).claims


def _module(conn: Connection, provisioning: str, os_module: str, install_type: str) -> None:
    conn.execute(
        "INSERT INTO module (kind, name) VALUES ('provisioning', %s), ('os', %s) ON CONFLICT DO NOTHING",
        [provisioning, os_module],
    )
    conn.execute(
        "INSERT INTO provisioning_install_type (module, install_type) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        [provisioning, install_type],
    )


def _profile(given: Mapping[str, object]) -> dict[str, object]:
    paths = {f"{kind}_path": f"/var/lib/vcl/{kind}" for kind in ("repository", "datastore", "vm")}
    columns = {"name": "standard", **paths, **given}
    return {key: Json(value) if isinstance(value, dict) else value for key, value in columns.items()}


def _insert(conn: Connection, table: str, **columns: Any) -> int:
    values = [value if isinstance(value, sql.Composable) else sql.Literal(value) for value in columns.values()]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", ").join(values)
    )
    return conn.execute(statement).fetchall()[0][0]
