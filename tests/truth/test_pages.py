"""What the pages show in SQL works: every statement, and every error that they promise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from a_lab import a_lab

from vcl_provision.store.database import Connection

TOP = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (TOP / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Shown:
    """A statement, and what is said of its failure: (`ERROR` or `HINT`, text) each."""

    statement: str
    promised: list[tuple[str, str]]


def shown(page: str) -> list[Shown]:
    blocks = re.findall(r"```sql\n(.*?)```", (TOP / page).read_text(encoding="utf-8"), re.DOTALL)
    pieces = [piece for block in blocks for piece in re.findall(r"([A-Z][^;]*;)\n((?:-- .*\n)*)", block)]
    return [Shown(statement, re.findall(r"-- (ERROR|HINT):  (.*)", after)) for statement, after in pieces]


@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)])
def test_every_statement_of_a_page_does_what_it_promises(conn: Connection, page: str) -> None:
    a_lab(conn)
    conn.execute("UPDATE computer SET name = 'vm1' WHERE name = 'vcl-1'")
    conn.execute("SET search_path = vcl, public")
    with conn.transaction(force_rollback=True):  # roles are the whole server's
        for one in shown(page):
            if one.promised:
                _is_refused(conn, one)
            else:
                conn.execute(one.statement.encode())


def test_the_readme_shows_the_whole_way_in_sql() -> None:
    words = [one.statement.split(maxsplit=1)[0] for one in shown("README.md")]
    assert words.count("INSERT") >= 2
    assert {"SELECT", "UPDATE", "LISTEN"} <= set(words)
    assert sum(bool(one.promised) for one in shown("README.md")) >= 2


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (TOP / page).read_text(encoding="utf-8"))
    assert [link for link in links if not ((TOP / page).parent / link).exists()] == []


def _is_refused(conn: Connection, one: Shown) -> None:
    with pytest.raises(psycopg.Error) as no, conn.transaction():
        conn.execute(one.statement.encode())
    said = {"ERROR": no.value.diag.message_primary or "", "HINT": no.value.diag.message_hint or ""}
    for kind, text in one.promised:
        assert text in said[kind]
