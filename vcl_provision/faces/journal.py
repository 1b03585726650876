"""The journal as lines: of one request or of all, once or as it grows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from vcl_provision.faces.output import print_json_line
from vcl_provision.faces.story import read_story
from vcl_provision.model.duration import spoken
from vcl_provision.store.database import Listener
from vcl_provision.store.requests import Entry, journal_end, journal_since

STYLES = {"state": "bold cyan", "command": "dim", "fault": "red", "note": "yellow"}
LOOKS_AGAIN = 1.0
"""Seconds: only states and steps are notified, and commands come too."""
LATE = 500
"""Entries are numbered before they are seen: one may be seen after so many later ones."""


def follow(
    listener: Listener, request_id: int | None, console: Console, *, lines: int, on: bool, as_json: bool
) -> None:
    """Prints the last `lines`; then, if `on`, what comes, until interrupted. Raises NoSuchRequest, DatabaseAway."""
    began = highest = journal_end(listener.connection)
    entries = journal_since(listener.connection, 0, request_id=request_id, limit=lines)
    if request_id is not None and not entries:
        read_story(listener.connection, request_id)
    printed = Printed(console, as_json=as_json)
    printed.update(entries)
    seen: set[int] = set()
    while on:
        listener.heard(LOOKS_AGAIN)
        entries = journal_since(listener.connection, max(began, highest - LATE), request_id=request_id)
        printed.update(entry for entry in entries if entry.id not in seen)
        seen |= {entry.id for entry in entries}
        highest = max(seen, default=highest)


def line(entry: Entry) -> Text:
    """`09:31:12.431  17 vm1  step     starting the machine`."""
    where = f"{entry.request_id or ''}".rjust(4) + f" {entry.computer or '':<8}"
    said = Text.assemble((f"{entry.at.astimezone():%H:%M:%S.%f}"[:-3], "dim"), f" {where} ")
    said.append(f"{entry.kind:<8}", style=STYLES.get(entry.kind, ""))
    said.append(f" {'$ ' if entry.kind == 'command' else ''}{entry.said}")
    if entry.kind == "command":
        said.append(_result(entry), style="dim" if entry.fields.get("status") == 0 else "red")
    return said


def _result(entry: Entry) -> str:
    fields = entry.fields
    status = fields.get("status")
    ended = "" if status == 0 else f", status {status}"
    return f"  ({fields.get('where')}, {spoken(float(fields.get('seconds', 0)))}{ended})"


class Printed:
    """Prints entries as they come; before those of another day than today, or than the line before, the day."""

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self._console = console
        self._as_json = as_json
        self._day = datetime.now(UTC).astimezone().date()

    def update(self, entries: Iterable[Entry]) -> None:
        for entry in sorted(entries, key=lambda entry: (entry.at, entry.id)):
            if self._as_json:
                print_json_line(entry)
            else:
                self._print(entry)

    def _print(self, entry: Entry) -> None:
        day = entry.at.astimezone().date()
        if day != self._day:
            self._day = day
            self._console.print(Text(f"{day:%a %d %b %Y}", style="bold"))
        whole = not self._console.is_terminal
        self._console.print(line(entry), no_wrap=True, overflow="ignore" if whole else "ellipsis", crop=not whole)
