"""How far a transfer is, on a terminal."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console

from vcl_provision.images.repository import Progress as Hears


@contextmanager
def bar(said: str, console: Console) -> Generator[Hears]:
    """A bar that is gone at the end; nothing where nobody could see it move."""
    if not console.is_terminal:
        yield _unseen
        return
    from rich.progress import (  # noqa: PLC0415 - what is not shown need not be loaded
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as shown:
        row = shown.add_task(said, total=None)

        def hear(done: int, total: int) -> None:
            shown.update(row, completed=done, total=total)

        yield hear


def _unseen(_done: int, _total: int) -> None:
    """Nobody looks."""
