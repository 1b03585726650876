"""Databases of a test's own, made and dropped."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo


@contextmanager
def a_database(server: str, template: str) -> Generator[str]:
    """The DSN of a copy of the template, gone afterwards."""
    name = make_database(server, template=template)
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        drop_database(server, name)


def make_database(server: str, *, template: str) -> str:
    """A copy does not take the settings of the database along, of which the schema makes one."""
    name = f"vcl_test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as conn:
        create = "CREATE DATABASE {} TEMPLATE {}"
        conn.execute(sql.SQL(create).format(sql.Identifier(name), sql.Identifier(template)))
        conn.execute(sql.SQL("ALTER DATABASE {} SET search_path = vcl, public").format(sql.Identifier(name)))
    return name


def drop_database(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
