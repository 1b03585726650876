"""docs/requirements.md has every requirement once, with tests that exist or the reason why it is not here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "requirements.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ((?:VCL|VB|VMB|VMW|OVM)-\d+) \|.*\|$", PAGE, re.MULTILINE)
LINES = {line.split("|")[1].strip(): line for line in PAGE.splitlines() if re.match(r"\| [A-Z]+-\d+ \|", line)}
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
ASKED = {
    "VCL": range(1, 22),
    "VB": [*range(22, 32), 37],
    "VMB": [*range(1, 25), *range(30, 36), *range(40, 61)],
    "VMW": [*range(5, 13), 19, 20],
    "OVM": [11, *range(22, 35), 44],
}
"""By the documents that asked; those that are left out belong to other modules."""


def names_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_each_is_there_once() -> None:
    assert [f"{key}-{number}" for key, numbers in ASKED.items() for number in numbers] == ROWS


@pytest.mark.parametrize("row", LINES.values(), ids=LINES)
def test_each_names_a_test_or_says_why_not(row: str) -> None:
    assert "::test_" in row or "not here: " in row


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)), ids=str)
def test_each_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in names_in(TOP / file)
