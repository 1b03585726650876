"""Lists as people read them, and as programs do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
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

LEAST_WIDE = 16
BETWEEN = 2
"""Columns between two columns of a list."""
WHOLE = 4096
"""Columns where there is no terminal: what a program reads, or a file keeps, is neither cut nor folded."""


def console(*, stderr: bool) -> Console:
    """Standard output or error, as wide as its terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else WHOLE)


out = console(stderr=False)
err = console(stderr=True)


def show(rows: Sequence[R], columns: Columns[R], *, as_json: bool, empty: str) -> None:
    """Prints the rows as a table of these columns, or as JSON with all that they hold."""
    if as_json:
        print_json(rows)
    elif not rows:
        out.print(empty, style="dim")
    else:
        out.print(table(rows, columns), crop=False)


def show_page(page: Any, *, as_json: bool) -> None:
    """Prints one thing, a picture of it or the data."""
    if as_json:
        print_json(page)
    else:
        out.print(page)


class ListTable(Table):
    """A list whose last column takes what room is left, `LEAST_WIDE` columns at least; the others are never cut.

    Where that does not fit, lines are longer than the terminal is wide, which folds them: print it with `crop=False`.
    """

    def __init__(self, titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        super().__init__(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        self.header_style = "bold"
        widest = [max(cell_len(str(cell)) for cell in column) for column in zip(titles, *rows, strict=True)]
        for title, width in zip(titles[:-1], widest, strict=False):
            self.add_column(title, no_wrap=True, min_width=width)
        self.add_column(titles[-1], overflow="fold", min_width=min(LEAST_WIDE, widest[-1]))
        for row in rows:
            self.add_row(*row)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = sum((column.min_width or 0) + BETWEEN for column in self.columns)
        return super().__rich_console__(console, options.update_width(max(options.max_width, least)))


def table(rows: Sequence[R], columns: Columns[R]) -> ListTable:
    return ListTable([*columns], [[cell(row) for cell in columns.values()] for row in rows])


def print_json(value: object) -> None:
    """JSON on standard output, one document; moments in ISO 8601, lengths of time in seconds."""
    print(json.dumps(_plain(value), default=_said, indent=2, ensure_ascii=False))  # noqa: T201 - rich would wrap it


def print_json_line(value: object) -> None:
    """The same on a line of its own, at once: of many that come one after another."""
    print(json.dumps(_plain(value), default=_said, ensure_ascii=False), flush=True)  # noqa: T201 - as above


def state(word: str) -> Text:
    return Text(word, style=STYLES.get(word, ""))


def moment(at: datetime | None, *, beside: datetime | None = None) -> str:
    """A moment in local time: the hour on the day of `beside` (today, if that is left out), else with its day.

    Of another year, with that too.
    """
    if at is None:
        return ""
    local, day = at.astimezone(), (beside or datetime.now(UTC)).astimezone().date()
    if local.date() == day:
        return f"{local:%H:%M}"
    if 0 < (local.date() - day).days < 7:
        return f"{local:%a %H:%M}"
    return f"{local:%d %b %H:%M}" if local.year == day.year else f"{local:%d %b %Y %H:%M}"


def spoken_size(size: int) -> str:
    """Bytes as people read them: `320 MB`, `1.4 GB`; in powers of two, as the other sizes here."""
    for power, unit in ((40, "TB"), (30, "GB")):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size >> 20} MB"


def span(start: datetime, end: datetime) -> str:
    """`10:24-14:24`, `Sun 09:00-12:00`, `23:54-00:54`: within a day the end is said by its hour alone."""
    until = f"{end.astimezone():%H:%M}" if end - start < timedelta(days=1) else moment(end, beside=start)
    return f"{moment(start)}-{until}"


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
