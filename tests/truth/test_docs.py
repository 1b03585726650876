"""What is generated in docs/ is current."""

from __future__ import annotations

from pathlib import Path

from vcl_provision.faces.lifecycle_page import ABOUT, page
from vcl_provision.model.states import RequestState

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_the_lifecycle_is_what_the_table_says() -> None:
    assert (DOCS / "lifecycle.md").read_text(encoding="utf-8") == page(), "write it again: make docs"


def test_the_page_tells_of_every_state() -> None:
    assert set(ABOUT) == set(RequestState)
