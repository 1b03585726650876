"""What a build says, as it says it."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from vcl_provision.store import builds
from vcl_provision.store.builds import Build, LogLine
from vcl_provision.store.database import Connection, Listener

LOOKS_AGAIN = 1.0
"""Seconds: only changes of a build's state are notified, and it says more than that."""
WAITS = 10
"""Looks at a build in the queue after which it is said that a builder is needed."""


def follow(listener: Listener, number: int, console: Console, *, on: bool, as_json: bool = False) -> Build:
    """Prints what a build has said; then, if `on`, what it says until it is over. The build as it is then.

    Raises Refused if there is none of this number, DatabaseAway.
    """
    seen = looks = 0
    while True:
        build = builds.one(listener.connection, number)  # before its lines: what it said before its end is not missed
        seen = _print_since(listener.connection, number, seen, console, as_json=as_json)
        if not on or build.ended_at is not None:
            return build
        looks += 1
        if build.state == "queued" and looks == WAITS:
            console.print("It waits for a builder. Is one running? vcl builds run", style="yellow")
        listener.heard(LOOKS_AGAIN)


def _print_since(conn: Connection, number: int, seen: int, console: Console, *, as_json: bool) -> int:
    lines = builds.log_since(conn, number, seen)
    for line in lines:
        _print(line, console, as_json=as_json)
    return lines[-1].id if lines else seen


def _print(line: LogLine, console: Console, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(line), default=str, ensure_ascii=False), flush=True)  # noqa: T201 - a line each
    else:
        console.print(Text.assemble((f"{line.at.astimezone():%H:%M:%S}", "dim"), f" {line.line}"), soft_wrap=True)
