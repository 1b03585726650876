"""One request as a page: its facts, its steps, its explanation."""

from __future__ import annotations

from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from vcl_provision.faces.explaining import Explanation
from vcl_provision.faces.output import Columns, ago, moment, span, state
from vcl_provision.faces.picture import MARGIN, Picture, headline
from vcl_provision.faces.story import Story
from vcl_provision.store.requests import Status

STATUS: Columns[Status] = {
    "N": lambda row: str(row.id),
    "user": lambda row: row.user,
    "image": lambda row: row.image,
    "computer": lambda row: row.computer or "-",
    "state": lambda row: state(row.state),
    "when": lambda row: span(row.start_time, row.end_time),
    "what it does": lambda row: row.fault or row.connect or row.doing or "",
}


def story(told: Story) -> RenderableType:
    """All that people want to know of it."""
    return Group(headline(told), _facts(told), Text(""), _Body(told))


def what_next(told: Story) -> Text:
    """The line after a reservation was made: its number, and what its user does now."""
    status = told.status
    if status.state == "reserved":
        took = ago(told.now - status.start_time)
        return Text(f"Request {status.id} is ready, {took} after its start. Log in: vcl connect {status.id}")
    if status.start_time > told.now:
        where = f" on {status.computer}" if status.computer else ""
        return Text(f"Request {status.id} is noted{where}: it starts at {moment(status.start_time)}.")
    if told.over:
        return Text(f"Request {status.id} is over: it is {status.state}.")
    made = f"Request {status.id} is made: {status.image} for {status.user}."
    return Text(f"{made} Watch it: vcl show {status.id} --watch")


def as_data(told: Story) -> dict[str, Any]:
    """The same for programs."""
    return {"request": told.status, "machines": told.machines, "steps": told.steps}


def explanation(told: Story, explained: Explanation) -> RenderableType:
    """Sentences under headings; a heading with nothing under it is left out."""
    follows = [f"{event}: {sentence} → {target}" for event, target, sentence in explained.follows]
    parts = (
        ("What happened", explained.happened, ""),
        ("What happens now", explained.happens, ""),
        ("What is wrong", explained.trouble, "red"),
        ("What can follow", follows, "dim"),
        ("What to do", [explained.to_do], "bold"),
    )
    pieces: list[RenderableType] = [headline(told)]
    for title, sentences, style in parts:
        if sentences:
            pieces.append(Text(f"\n{title}", style="bold cyan"))
            pieces.extend(Text(f"  {sentence}", style=style) for sentence in sentences)
    return Group(*pieces)


class _Body(Picture):
    """The steps without the headline."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.machines(options.max_width - MARGIN)


def _facts(told: Story) -> Table:
    status = told.status
    facts = Table.grid(padding=(0, 2))
    facts.add_row("  from", f"{moment(status.start_time)} until {moment(status.end_time)}")
    facts.add_row("  state", f"{status.state} for {ago(told.now - status.since)}")
    for name, value in (
        ("doing", status.doing),
        ("moved", status.moved),
        ("address", status.address),
        ("user at", status.remote_address),
        ("log in", status.connect),
        ("failed", status.fault),
        ("hint", status.hint),
    ):
        if value:
            facts.add_row(f"  {name}", Text(value))
    return facts
