"""docs/lifecycle.md, written from the lifecycle table: `python -m vcl_provision.faces.lifecycle_page > PAGE`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from vcl_provision.model.states import Event, RequestState
from vcl_provision.workflow.lifecycle import COMPUTER_STATE, EDGES, FINAL, ending

ABOUT: dict[RequestState, str] = {
    RequestState.NEW: "waits for a computer, or the computer is being made ready",
    RequestState.RELOAD: "an administrator's: the computer is loaded, for nobody",
    RequestState.RESERVED: "the machine is ready; it waits for its user to ask to be let in, and to come",
    RequestState.INUSE: "the user is, or was lately, on the machine",
    RequestState.TIMEOUT: "nobody came, everybody left, or the time is over: the user is locked out",
    RequestState.DELETED: "the user gave it back: they are locked out",
    RequestState.RECLAIM: "the machine is made fit for the next user",
    RequestState.COMPLETE: "over; the computer is available again",
    RequestState.FAILED: "over; the fault says why, and what had been done is undone",
}

HEAD = """# The life of a request

<!-- Written by `make docs` from vcl_provision/workflow/lifecycle.py, which is the one table of states. -->

A request has one state, whatever its number of computers; it goes on when all of them have. `vcl explain N` says where
one is and what can follow.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join((HEAD, *_diagram(), "", *_states(), "", *_edges(), "", *_endings(), ""))


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    [*] --> new"
    yield "    [*] --> reload"
    for edge in EDGES:
        for source in edge.sources:
            if source is not edge.target:
                yield f"    {source} --> {edge.target}: {edge.event}"
    for state in FINAL:
        yield f"    {state} --> [*]"
    yield "```"


def _states() -> Iterator[str]:
    yield "## States"
    yield ""
    rows = ((f"`{state}`", ABOUT[state], f"`{COMPUTER_STATE[state]}`") for state in RequestState)
    yield from _table(("state", "means", "the computer is meanwhile"), rows)


def _edges() -> Iterator[str]:
    yield "## What leads on"
    yield ""
    rows = (
        (f"`{source}`", f"`{edge.event}`", f"`{edge.target}`", edge.sentence)
        for source in RequestState
        for edge in EDGES
        if source in edge.sources
    )
    yield from _table(("in", "event", "follows", "which means"), rows)


def _endings() -> Iterator[str]:
    yield "## How the accounting log names the end"
    yield ""
    ends = [event for event in Event if ending(event, was_in=False) != "none"]
    rows = ((f"`{event}`", f"`{ending(event, was_in=False)}`", f"`{ending(event, was_in=True)}`") for event in ends)
    yield from _table(("event", "nobody had been in", "the user had been in"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(head)
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(page())
