"""Management nodes: their names, and that they live."""

from __future__ import annotations

from vcl_provision.store.database import Connection


def register_node(conn: Connection, name: str) -> int:
    """The node's id; its row is made if it is new."""
    return conn.execute(
        """
        INSERT INTO management_node (name, started_at, last_check_in) VALUES (%s, vcl.now(), vcl.now())
        ON CONFLICT (name) DO UPDATE SET started_at = vcl.now(), last_check_in = vcl.now() RETURNING id
        """,
        [name],
    ).fetchall()[0][0]


def hold_name(conn: Connection, name: str, *, instead_of: int | None = None) -> bool:
    """Takes the node's name for as long as this connection lives; False if another daemon has it.

    `instead_of` is the server process of the connection that had it for this daemon before: if that connection broke on
    our side only, the server still believes in it, perhaps for hours, so it is ended.
    """
    if instead_of is not None:
        conn.execute(_END_HOLDER, [instead_of, name])
    row = conn.execute("SELECT pg_try_advisory_lock(hashtextextended('node ' || %s, 0))", [name]).fetchone()
    return bool(row and row[0])


_END_HOLDER = """
    SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
     WHERE l.pid = %s AND l.pid <> pg_backend_pid() AND l.granted AND l.locktype = 'advisory' AND l.objsubid = 1
       AND d.datname = current_database()
       AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('node ' || %s, 0)
"""


def check_in(conn: Connection, node_id: int) -> None:
    """The node lives."""
    conn.execute("UPDATE management_node SET last_check_in = vcl.now() WHERE id = %s", [node_id])
