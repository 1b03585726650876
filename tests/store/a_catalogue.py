"""All that a schema is, as rows that can be compared."""

from __future__ import annotations

from vcl_provision.store.database import Connection

CONTENT = ("lifecycle_edge", "step", "connect_method", "connect_method_port", "affiliation")
"""Tables that come with rows."""

_CATALOGUE = """
    WITH relation AS (
        SELECT c.* FROM pg_class c WHERE c.relnamespace = 'vcl'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')),
    attribute AS (
        SELECT relation.relname, a.*, pg_get_expr(d.adbin, d.adrelid) AS filled
          FROM relation JOIN pg_attribute a ON a.attrelid = relation.oid AND a.attnum > 0 AND NOT a.attisdropped
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum),
    routine AS (SELECT * FROM pg_proc WHERE pronamespace = 'vcl'::regnamespace)
    SELECT 'relation', relname::text, concat_ws(' ', relkind, relpersistence, reloptions::text, relrowsecurity)
      FROM relation
    UNION ALL
    SELECT 'column', relname || '.' || attname,
           concat_ws(' ', format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, filled)
      FROM attribute
    UNION ALL
    SELECT 'constraint', concat_ws(' ', nullif(conrelid, 0)::regclass, nullif(contypid, 0)::regtype, conname),
           concat_ws(' ', pg_get_constraintdef(oid), convalidated)
      FROM pg_constraint WHERE connamespace = 'vcl'::regnamespace
    UNION ALL
    SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid)
      FROM pg_index JOIN relation ON relation.oid = indrelid
    UNION ALL
    SELECT 'function', oid::regprocedure::text, pg_get_functiondef(oid) FROM routine
    UNION ALL
    SELECT 'trigger', relname || '.' || tgname, concat_ws(' ', pg_get_triggerdef(t.oid), tgenabled)
      FROM pg_trigger t JOIN relation ON relation.oid = tgrelid WHERE NOT tgisinternal
    UNION ALL
    SELECT 'view', relname::text, pg_get_viewdef(oid) FROM relation WHERE relkind IN ('v', 'm')
    UNION ALL
    SELECT 'type', typname::text,
           concat_ws(' ', typtype, format_type(typbasetype, typtypmod), typnotnull, typdefault)
      FROM pg_type WHERE typnamespace = 'vcl'::regnamespace AND typtype IN ('d', 'e')
    UNION ALL
    SELECT 'comment', pg_describe_object(classoid, objoid, objsubid), description FROM pg_description
     WHERE (pg_identify_object(classoid, objoid, objsubid)).schema = 'vcl'
        OR (classoid, objoid) = ('pg_namespace'::regclass, 'vcl'::regnamespace)
    UNION ALL
    SELECT 'grant', thing, (SELECT string_agg(item::text, ' ' ORDER BY item::text) FROM unnest(acl) AS item)
      FROM (SELECT relname::text, relacl FROM relation
            UNION ALL SELECT relname || '.' || attname, attacl FROM attribute
            UNION ALL SELECT oid::regprocedure::text, proacl FROM routine
            UNION ALL SELECT nspname::text, nspacl FROM pg_namespace WHERE nspname = 'vcl') AS granted (thing, acl)
     WHERE acl IS NOT NULL
    UNION ALL
    SELECT 'setting', coalesce(setrole::regrole::text, ''), setconfig::text FROM pg_db_role_setting
     WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL
    SELECT 'migration', number::text, name FROM vcl.schema_migration
"""
"""The order of columns is left out: a column that a migration adds comes last, and nobody asks for columns by place."""


def catalogue(conn: Connection) -> set[tuple[str, str, str]]:
    """(kind, name, definition) of everything in schema vcl, and what its fixed tables hold."""
    rows = {(kind, name, definition or "") for kind, name, definition in conn.execute(_CATALOGUE).fetchall()}
    for table in CONTENT:
        rows |= {("row", table, str(row)) for row in conn.execute(f"SELECT * FROM vcl.{table}".encode()).fetchall()}
    return rows
