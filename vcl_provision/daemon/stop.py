"""What ends a piece of work before it is done: nobody wants it any more, its time is up, or its lease may be lost."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class WorkStop:
    """channels' `Stop` of one claim. Seconds are of the monotonic clock.

    A process can sleep longer than its lease (stopped, starved, its machine suspended) and wake in the middle of a load
    that another node has taken over by then. So who asks after `sure_until` is kept waiting until `make_sure` has moved
    that, or has set the stop: nothing is begun on a lease that may have ended.
    """

    def __init__(
        self, *, sure_until: float, make_sure: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sure_until = sure_until
        self._make_sure = make_sure
        self._clock = clock
        self._asked = False
        self._ends_at = math.inf
        self._changed = threading.Condition()

    @property
    def asked(self) -> bool:
        """Somebody set it; says nothing of time and lease, and so never waits."""
        return self._asked

    def is_set(self) -> bool:
        while not self._over():
            if self._clock() < self.sure_until:
                return False
            self._make_sure()
        return True

    def wait(self, timeout: float | None = None) -> bool:
        self.pause(math.inf if timeout is None else timeout)
        return self.is_set()

    def pause(self, seconds: float) -> None:
        """Waits so long, or until it is set or time is up, and asks nobody for the lease."""
        until = self._clock() + seconds
        with self._changed:
            while not self._asked and (left := min(until, self._ends_at) - self._clock()) > 0:
                self._changed.wait(min(left, threading.TIMEOUT_MAX))

    def set(self) -> None:
        with self._changed:
            self._asked = True
            self._changed.notify_all()

    def clear(self) -> None:
        """What was asked before is known by now, and no time is set."""
        with self._changed:
            self._asked = False
            self._ends_at = math.inf

    def end_in(self, seconds: float) -> None:
        """Time is up in so many seconds."""
        with self._changed:
            self._ends_at = self._clock() + seconds
            self._changed.notify_all()

    def move_end(self, seconds: float) -> None:
        """The reserved time changed, or the clock that it is measured with: only for a turn that time ends."""
        with self._changed:
            if self._ends_at < math.inf:
                self._ends_at = self._clock() + seconds
                self._changed.notify_all()

    def _over(self) -> bool:
        return self._asked or self._clock() >= self._ends_at
