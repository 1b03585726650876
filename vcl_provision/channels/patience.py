"""Waiting, with an end: one deadline handed down, and a stop that reaches every wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from vcl_provision.model.faults import Cancelled, TimedOut

T = TypeVar("T")


class Stop(Protocol):
    """Says that the work is to stop. A threading.Event is one."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool:
        """Waits so many seconds, or until it is set; whether it is."""
        ...


class Patience:
    """How long the work at hand may take, and whether anybody still wants it.

    One is made per piece of work and handed down; nothing below it waits in another way. `seconds` from now on the
    monotonic clock, so a wall clock that jumps moves no deadline.
    """

    def __init__(self, seconds: float, *, stop: Stop | None = None) -> None:
        self._ends = time.monotonic() + seconds
        self._stop: Stop = stop or threading.Event()

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def cancel(self) -> None:
        """Ends every wait under this one, now."""
        self._stop.set()

    def check(self) -> None:
        """Raises Cancelled if the work is to stop. For long work between two commands."""
        if self._stop.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Waits so long, or until cancelled (raises Cancelled); never past the deadline."""
        if self._stop.wait(min(seconds, self.remaining)):
            raise Cancelled

    def at_most(self, seconds: float) -> Patience:
        """The same patience for one part of the work: ends when the whole does, or sooner; same stop."""
        return Patience(min(seconds, self.remaining), stop=self._stop)

    def until(self, ask: Callable[[], T | None], what: str, *, every: float = 0.2, hint: str = "") -> T:
        """Asks until the answer is true and returns it.

        `what` completes "waited N s for ..."; `every` is seconds between two questions.
        Raises TimedOut at the deadline, Cancelled when the work is to stop, and whatever `ask` raises.
        """
        began = time.monotonic()
        while True:
            self.check()
            answer = ask()
            if answer:
                return answer
            if self.remaining <= 0:
                raise TimedOut(f"waited {time.monotonic() - began:.0f} s for {what}", hint)
            self.sleep(every)
