"""Work in stages, shown as it goes: each with what is done just now and its seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from vcl_provision.model.duration import spoken

Say = Callable[[str], None]

WIDTH = 54


class Stages:
    """Prints one line per stage when it is over; on a terminal a spinner while it lasts."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def stage(self, said: str) -> Generator[Say]:
        """One stage. What is handed in says what is done just now, which passes; the stage's line stays."""
        began = time.monotonic()
        with self.console.status(escape(said)) as status:
            yield lambda now: status.update(f"{escape(said)} [dim]{escape(now)}[/dim]")
        self.done(said, time.monotonic() - began)

    def done(self, said: str, seconds: float) -> None:
        self.console.print(f"[green]✓[/green] {escape(said):<{WIDTH}} [dim]{spoken(seconds):>8}[/dim]")
