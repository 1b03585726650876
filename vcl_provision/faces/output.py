"""Lists as people read them, and as programs do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vcl_provision.model.duration import spoken
from vcl_provision.model.secret import Secret

Cell = str | Text
R = TypeVar("R")
Columns = Mapping[str, Callable[[R], Cell]]
"""Titles of a table's columns, and what each shows of a row."""

STYLES = {
    **dict.fromkeys(("reserved", "inuse", "available", "ok"), "green"),
    **dict.fromkeys(("new", "reload", "reclaim", "deleted", "timeout", "reloading"), "yellow"),
    **dict.fromkeys(("failed", "maintenance", "broken", "full"), "red"),
    "complete": "dim",
}

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def show(rows: Sequence[R], columns: Columns[R], *, as_json: bool, empty: str) -> None:
    """Prints the rows as a table of these columns, or as JSON with all that they hold."""
    if as_json:
        print_json(rows)
    elif not rows:
        out.print(empty, style="dim")
    else:
        out.print(table(rows, columns))


def show_page(page: Any, *, as_json: bool) -> None:
    """Prints one thing, a picture of it or the data."""
    if as_json:
        print_json(page)
    else:
        out.print(page)


def table(rows: Sequence[R], columns: Columns[R]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 1, 0, 0))
    *narrow, wide = columns
    for name in narrow:
        shown.add_column(name, no_wrap=True)
    shown.add_column(wide, overflow="fold", min_width=16)
    for row in rows:
        shown.add_row(*(cell(row) for cell in columns.values()))
    return shown


def print_json(value: object) -> None:
    """JSON on standard output, one document; moments in ISO 8601, lengths of time in seconds."""
    print(json.dumps(_plain(value), default=_said, indent=2, ensure_ascii=False))  # noqa: T201 - rich would wrap it


def state(word: str) -> Text:
    return Text(word, style=STYLES.get(word, ""))


def moment(at: datetime | None, *, beside: datetime | None = None) -> str:
    """A moment in local time: the hour on the day of `beside` (today, if that is left out), else with its day."""
    if at is None:
        return ""
    local, day = at.astimezone(), (beside or datetime.now(UTC)).astimezone().date()
    if local.date() == day:
        return f"{local:%H:%M}"
    return f"{local:%a %H:%M}" if 0 < (local.date() - day).days < 7 else f"{local:%d %b %H:%M}"


def spoken_size(size: int) -> str:
    """Bytes as people read them: `320 MB`, `1.4 GB`; in powers of two, as the other sizes here."""
    for power, unit in ((40, "TB"), (30, "GB")):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size >> 20} MB"


def span(start: datetime, end: datetime) -> str:
    """`10:24-14:24`, `Sun 09:00-12:00`."""
    return f"{moment(start)}-{moment(end, beside=start)}"


def ago(length: timedelta) -> str:
    return spoken(length.total_seconds())


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("Sequence[object]", value)]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in cast("Mapping[object, object]", value).items()}
    if is_dataclass(value) and not isinstance(value, Secret):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _said(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)
