"""How far a long piece of work is: told while qemu-img is at it, not only between two disks."""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path

Progress = Callable[[int, int], None]
"""Hears how many bytes are done, and how many there are in all; while a disk is converted, from another thread."""

_EVERY = 0.1
_SAID = re.compile(rb"\((\d+\.\d+)/100%\)")
_TAIL = 64


class Counted:
    """Adds up what is done, for who wants to hear it."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def more(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        self._tell(self._done)

    @property
    def within(self) -> Progress | None:
        """Hears of the part that is being done: told on, but not added. None if nobody wants to hear."""
        return self._part if self._progress else None

    def _part(self, done: int, _of: int) -> None:
        self._tell(self._done + done)

    def _tell(self, done: int) -> None:
        if self._progress:
            self._progress(done, self._total)


@contextlib.contextmanager
def following(progress: Progress | None, total: int) -> Generator[list[str]]:
    """What to put before a command that prints `(12.34/100%)` over and over, so that `progress` hears of it meanwhile.

    A channel hands over what a command said only when it has ended; so this one says it to a file, read as it grows.
    """
    if progress is None:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="vcl-progress-") as folder:
        said, ended = Path(folder) / "said", threading.Event()
        thread = threading.Thread(target=_follow, args=(said, ended, progress, total), name="qemu-img-progress")
        thread.start()
        try:
            yield ["sh", "-c", 'exec "$@" >"$0"', str(said)]
        finally:
            ended.set()
            thread.join()


def _follow(said: Path, ended: threading.Event, progress: Progress, total: int) -> None:
    before = 0
    while not ended.wait(_EVERY):
        done = int(_fraction(said) * total)
        if before < done < total:
            progress(done, total)
            before = done


def _fraction(said: Path) -> float:
    """The last that was said, 0 before anything was."""
    with contextlib.suppress(FileNotFoundError), said.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL))
        found = _SAID.findall(file.read())
        return float(found[-1]) / 100 if found else 0.0
    return 0.0
