"""What a waiting thread is woken by: at once, or at a time."""

from __future__ import annotations

import math
import threading
import time


class Alarm:
    """Many rings before the next wait are one. Seconds are of the monotonic clock."""

    def __init__(self) -> None:
        self._rings_at = math.inf
        self._changed = threading.Condition()

    def ring(self) -> None:
        self.ring_in(0.0)

    def ring_in(self, seconds: float) -> None:
        """Rings then, unless it rings before."""
        at = time.monotonic() + seconds
        with self._changed:
            if at < self._rings_at:
                self._rings_at = at
                self._changed.notify()

    def wait(self, at_most: float) -> None:
        """Until it rings, so many seconds at most; afterwards it is silent again."""
        until = time.monotonic() + at_most
        with self._changed:
            while (left := min(until, self._rings_at) - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._rings_at <= time.monotonic():
                self._rings_at = math.inf
