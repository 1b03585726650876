"""THE table: which state follows which event. Documentation, `vcl explain` and the database agree with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from transitions import Machine, MachineError

from vcl_provision.model.faults import NotAllowed
from vcl_provision.model.states import ComputerState, Ending, Event, RequestState

S, E = RequestState, Event


@dataclass(frozen=True)
class Edge:
    """From each of `sources`, `event` leads to `target`; `sentence` says so to people."""

    event: Event
    sources: tuple[RequestState, ...]
    target: RequestState
    sentence: str


_MOVED = "its VM host had no room; it gets a computer on another one"

EDGES: tuple[Edge, ...] = (
    Edge(E.LOADED, (S.NEW,), S.RESERVED, "the machine is ready and waits for its user"),
    Edge(E.LOADED, (S.RELOAD,), S.COMPLETE, "the computer holds the image and is available"),
    Edge(E.CONNECTED, (S.RESERVED,), S.INUSE, "the user is in"),
    Edge(E.NO_ACKNOWLEDGEMENT, (S.RESERVED,), S.TIMEOUT, "nobody asked to be let in in time"),
    Edge(E.NO_LOGIN, (S.RESERVED,), S.TIMEOUT, "the user was let in and did not come"),
    Edge(E.LEFT, (S.INUSE,), S.TIMEOUT, "the user left and did not come back in time"),
    Edge(E.ENDED, (S.NEW, S.RELOAD, S.RESERVED, S.INUSE), S.TIMEOUT, "the reserved time is over"),
    Edge(E.DELETED, (S.NEW, S.RELOAD, S.RESERVED, S.INUSE), S.DELETED, "the user gave it back"),
    Edge(E.WITHDRAWN, (S.NEW, S.RELOAD), S.COMPLETE, "it was given back before anything had been done for it"),
    Edge(E.MOVED, (S.NEW,), S.NEW, _MOVED),
    Edge(E.MOVED, (S.RELOAD,), S.RELOAD, _MOVED),
    Edge(E.CLOSED, (S.TIMEOUT, S.DELETED), S.RECLAIM, "the user is locked out"),
    Edge(E.RECLAIMED, (S.RECLAIM,), S.COMPLETE, "the computer is taken back and clean"),
    Edge(E.RECLAIMED, (S.FAILED,), S.FAILED, "what had been done was undone"),
    Edge(E.GAVE_UP, (S.NEW, S.RELOAD, S.RESERVED, S.INUSE), S.FAILED, "it could not be done; the fault says why"),
)

COMPUTER_STATE: dict[RequestState, ComputerState] = {
    S.NEW: ComputerState.RELOADING,
    S.RELOAD: ComputerState.RELOADING,
    S.RESERVED: ComputerState.RESERVED,
    S.INUSE: ComputerState.INUSE,
    S.TIMEOUT: ComputerState.TIMEOUT,
    S.DELETED: ComputerState.TIMEOUT,
    S.RECLAIM: ComputerState.RELOADING,
    S.COMPLETE: ComputerState.AVAILABLE,
    S.FAILED: ComputerState.AVAILABLE,
}
"""What the computer is while its request is in a state; for the last two, what it is when all is undone."""

ENDING: dict[Event, Ending] = {
    E.NO_ACKNOWLEDGEMENT: Ending.NOACK,
    E.NO_LOGIN: Ending.NOLOGIN,
    E.LEFT: Ending.TIMEOUT,
    E.ENDED: Ending.EOR,
    E.GAVE_UP: Ending.FAILED,
    E.WITHDRAWN: Ending.DELETED,
}
"""The accounting log's word; DELETED is `released` once the user was in, `deleted` before, as in VCL."""

LIVE = (S.NEW, S.RELOAD, S.RESERVED, S.INUSE)
"""States in which a user (or an administrator's reload) still wants the computer."""

FINAL = (S.COMPLETE, S.FAILED)


class _Marker:
    """The thing that `transitions` moves."""

    state: str


@cache
def advance(state: RequestState, event: Event) -> RequestState:
    """The state that follows. Raises NotAllowed if the table has no such edge."""
    marker = _Marker()
    machine = Machine(
        marker, states=[s.value for s in S], initial=state.value, auto_transitions=False, transitions=_rows()
    )
    if event.value not in machine.events:
        raise NotAllowed(f"nothing follows {event.value!r}")
    try:
        machine.events[event.value].trigger(marker)
    except MachineError as no:
        raise NotAllowed(f"{event.value!r} does not follow from {state.value!r}") from no
    return RequestState(marker.state)


def _rows() -> list[dict[str, object]]:
    return [{"trigger": e.event.value, "source": [s.value for s in e.sources], "dest": e.target.value} for e in EDGES]


def ending(event: Event, *, was_in: bool) -> Ending:
    """How the accounting log names the end that this event brings."""
    if event is E.DELETED:
        return Ending.RELEASED if was_in else Ending.DELETED
    return ENDING.get(event, Ending.NONE)


def is_enough(event: Event) -> bool:
    """Does the event of one machine move the whole request? A cluster is in use when its user is in one of them."""
    return event is E.CONNECTED


def combined(events: Iterable[Event]) -> Event:
    """What a cluster's request does when its reservations report different events: the gravest decides."""
    gravest_last = (
        E.LOADED,
        E.RECLAIMED,
        E.CLOSED,
        E.CONNECTED,
        E.NO_LOGIN,
        E.NO_ACKNOWLEDGEMENT,
        E.LEFT,
        E.ENDED,
        E.GAVE_UP,
    )
    return max(events, key=gravest_last.index)


def way_on(state: RequestState) -> list[tuple[Event, RequestState, str]]:
    """What can follow a state, for `vcl explain`: (event, state, sentence)."""
    return [(e.event, e.target, e.sentence) for e in EDGES if state in e.sources]
