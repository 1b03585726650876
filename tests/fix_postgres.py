"""A PostgreSQL for the tests: one server for the session, a fresh database with the lab's schema for each test.

VCL_TEST_DSN names a server to use instead, for instance one of another version: its user must be allowed to create
databases and roles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator

import psycopg
import pytest
from a_database import drop_database, make_database
from psycopg.conninfo import make_conninfo

from vcl_provision.model.shipped import shipped
from vcl_provision.store import embedded
from vcl_provision.store.database import Connection, Database


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The DSN of a server whose databases are ours to make and drop."""
    if given := os.environ.get("VCL_TEST_DSN"):
        yield given
        return
    folder = tmp_path_factory.mktemp("postgres")
    try:
        yield embedded.start(folder, durable=False)
    finally:
        embedded.remove(folder)


@pytest.fixture(scope="session")
def template(server: str) -> Generator[str]:
    """The name of a database with the schema and nothing in it, from which others are copied."""
    name = make_database(server, template="template1")
    try:
        with psycopg.connect(make_conninfo(server, dbname=name), autocommit=True) as conn:
            conn.execute(shipped("schema.sql").read_bytes())
        yield name
    finally:
        drop_database(server, name)


@pytest.fixture
def new_database(server: str) -> Generator[Callable[[str], str]]:
    """Makes databases for one test: called with the template's name, returns the new one's DSN."""
    made: list[str] = []

    def make(template: str) -> str:
        made.append(make_database(server, template=template))
        return make_conninfo(server, dbname=made[-1])

    try:
        yield make
    finally:
        for name in made:
            drop_database(server, name)


@pytest.fixture
def dsn(template: str, new_database: Callable[[str], str]) -> str:
    """A database of this test's own, with the schema."""
    return new_database(template)


@pytest.fixture
def database(dsn: str) -> Generator[Database]:
    """The store's way to the test's database, as the daemon has it."""
    made = Database(dsn, max_size=8)
    yield made
    made.close()


@pytest.fixture
def conn(dsn: str) -> Generator[Connection]:
    """A connection of an administrator: each statement stands alone."""
    with psycopg.connect(dsn, autocommit=True) as made:
        yield made
