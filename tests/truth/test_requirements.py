"""docs/requirements.md names tests that exist, for every requirement."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "requirements.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| VCL-")]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def names_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_each_of_the_21_is_there_once() -> None:
    assert [row.split("|")[1].strip() for row in ROWS] == [f"VCL-{number}" for number in range(1, 22)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_each_names_a_test(row: str) -> None:
    assert "::test_" in row


@pytest.mark.parametrize(("file", "name"), NAMED, ids=str)
def test_each_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in names_in(TOP / file)
