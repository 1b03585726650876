"""What the outcomes of turns look like from here: the shapes that the floor above hands down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from vcl_provision.model.faults import Fault
from vcl_provision.model.lab import Address
from vcl_provision.model.states import ComputerState, Ending, Event, RequestState


class Noted(Protocol):
    """What a handler learned; None leaves what is there."""

    @property
    def granted_address(self) -> Address | None: ...
    @property
    def connected_at(self) -> datetime | None: ...
    @property
    def last_seen_at(self) -> datetime | None: ...
    @property
    def notices_sent(self) -> int | None: ...


class Again(Protocol):
    """When to ask again, in seconds, and why; `attempt` counts as a failed try."""

    @property
    def after(self) -> float: ...
    @property
    def because(self) -> str: ...
    @property
    def attempt(self) -> bool: ...
    @property
    def noted(self) -> Noted: ...


class EndingOf(Protocol):
    """The accounting log's word for an event."""

    def __call__(self, event: Event, *, was_in: bool) -> Ending: ...


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The lifecycle, handed down by the floor that knows it."""

    advance: Callable[[RequestState, Event], RequestState]
    combined: Callable[[Iterable[Event]], Event]
    is_enough: Callable[[Event], bool]
    computer_state: Callable[[RequestState], ComputerState]
    ending: EndingOf

    def is_over(self, state: RequestState, target: RequestState) -> bool:
        """Is nothing left to be done: complete, or failed and undone. To have failed is not to be over."""
        return target is RequestState.COMPLETE or state is target is RequestState.FAILED


@dataclass(frozen=True, kw_only=True)
class Blame:
    """Why a request failed, and whether that counts as evidence against its computer."""

    fault: Fault
    computer: bool


def as_asked(state: RequestState, event: Event, rules: Rules, blame: Blame | None) -> dict[str, Any]:
    """The move that an event brings, as parameters of the statements that make it."""
    target = rules.advance(state, event)
    # A deleted request's ending is known by what it was deleted from, which its closing books.
    ended = Event.DELETED if state is RequestState.DELETED else event
    return {
        "state": state.value,
        "event": event.value,
        "target": target.value,
        "over": rules.is_over(state, target),
        "computer_state": rules.computer_state(target).value,
        "ending_if_in": rules.ending(ended, was_in=True).value,
        "ending_if_not": rules.ending(ended, was_in=False).value,
        "fault_kind": blame.fault.kind.value if blame else None,
        "fault_said": blame.fault.said if blame else None,
        "fault_hint": blame.fault.hint if blame else None,
        "blame_computer": blame.computer if blame else False,
    }


def as_noted(noted: Noted) -> dict[str, Any]:
    """What was noted, as parameters."""
    return {
        "granted": noted.granted_address,
        "connected": noted.connected_at,
        "seen": noted.last_seen_at,
        "notices": noted.notices_sent,
    }
