"""The database says the same words as the code, and knows the same edges."""

from __future__ import annotations

import re
from enum import StrEnum

import pytest

from vcl_provision.model.reservation import Timings
from vcl_provision.model.states import ComputerKind, ComputerState, Ending, NodeStatus, RequestState
from vcl_provision.model.steps import SENTENCES
from vcl_provision.store.database import Connection
from vcl_provision.store.effects import SCOPES
from vcl_provision.workflow.lifecycle import EDGES


def words(conn: Connection, constraint: str) -> set[str]:
    """The words between quotes in a CHECK of this name."""
    rows = conn.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", [constraint]
    ).fetchall()
    assert len(rows) == 1, constraint
    return set(re.findall(r"'([^']*)'", rows[0][0]))


@pytest.mark.parametrize(
    ("constraint", "enum"),
    [
        ("is_a_request_state", RequestState),
        ("is_a_computer_state", ComputerState),
        ("is_an_ending", Ending),
        ("computer_kind_check", ComputerKind),
    ],
)
def test_a_domain_has_exactly_the_words_of_its_enum(conn: Connection, constraint: str, enum: type[StrEnum]) -> None:
    assert words(conn, constraint) == {word.value for word in enum}


def test_the_comparison_would_see_another_word(conn: Connection) -> None:
    assert words(conn, "is_a_request_state") != {word.value for word in NodeStatus}


def test_the_edges_are_those_of_the_lifecycle_table_with_their_sentences(conn: Connection) -> None:
    said = {(e.event.value, source.value, e.target.value, e.sentence) for e in EDGES for source in e.sources}
    assert set(conn.execute("SELECT event, source, target, sentence FROM lifecycle_edge").fetchall()) == said


def test_the_steps_say_the_same_to_people(conn: Connection) -> None:
    assert dict(conn.execute("SELECT name, sentence FROM step").fetchall()) == {
        step.value: sentence for step, sentence in SENTENCES.items()
    }


def test_each_timing_may_be_set_in_the_database(conn: Connection) -> None:
    assert words(conn, "is_a_timing") == set(Timings.__dataclass_fields__)


def test_the_scopes_of_effects_are_the_same(conn: Connection) -> None:
    assert words(conn, "effect_scope_check") == set(SCOPES)


def test_a_request_in_every_state_but_failed_has_a_way_on_or_is_complete(conn: Connection) -> None:
    onward = {row[0] for row in conn.execute("SELECT source FROM lifecycle_edge").fetchall()}
    assert onward == {state.value for state in RequestState} - {RequestState.COMPLETE.value}
