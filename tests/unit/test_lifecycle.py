"""The lifecycle table, as decisions."""

from __future__ import annotations

import pytest

from vcl_provision.model.faults import NotAllowed
from vcl_provision.model.states import Ending, Event, RequestState
from vcl_provision.workflow.lifecycle import COMPUTER_STATE, EDGES, FINAL, LIVE, advance, combined, ending, way_on


@pytest.mark.parametrize(
    ("state", "event", "follows"), [(source, edge.event, edge.target) for edge in EDGES for source in edge.sources]
)
def test_every_edge_of_the_table_can_be_gone(state: RequestState, event: Event, follows: RequestState) -> None:
    assert advance(state, event) is follows


def test_what_the_table_does_not_have_is_refused() -> None:
    allowed = {(source, edge.event) for edge in EDGES for source in edge.sources}
    refused = [(state, event) for state in RequestState for event in Event if (state, event) not in allowed]
    assert refused
    for state, event in refused:
        with pytest.raises(NotAllowed, match=event.value):
            advance(state, event)


def test_every_state_that_somebody_wants_can_be_deleted_and_can_fail() -> None:
    for state in LIVE:
        assert advance(state, Event.DELETED) is RequestState.DELETED
        assert advance(state, Event.GAVE_UP) is RequestState.FAILED


def test_every_state_leads_to_a_final_one() -> None:
    for state in RequestState:
        reached, ahead = set[RequestState](), [state]
        while ahead:
            here = ahead.pop()
            reached.add(here)
            ahead += [follows for _, follows, _ in way_on(here) if follows not in reached]
        assert reached & set(FINAL)


def test_every_state_says_what_its_computer_is() -> None:
    assert set(COMPUTER_STATE) == set(RequestState)


def test_the_gravest_report_of_a_cluster_decides() -> None:
    assert combined([Event.CONNECTED, Event.NO_LOGIN]) is Event.NO_LOGIN
    assert combined([Event.LOADED, Event.GAVE_UP, Event.ENDED]) is Event.GAVE_UP


def test_giving_back_is_released_once_the_user_was_in() -> None:
    assert ending(Event.DELETED, was_in=True) is Ending.RELEASED
    assert ending(Event.DELETED, was_in=False) is Ending.DELETED
    assert ending(Event.ENDED, was_in=True) is Ending.EOR
