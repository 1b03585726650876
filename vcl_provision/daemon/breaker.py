"""A circuit breaker per VM host: one that hangs costs its own reservations only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass
class _Host:
    failures: int = 0
    open_until: float = 0.0


@dataclass
class Breakers:
    """Counts how often each host was away in a row; `failures` of that opens its breaker for `cooldown` seconds.

    After the cool-down one piece of work is let through; its result closes the breaker or opens it again.
    """

    failures: int
    cooldown: float
    clock: Callable[[], float] = time.monotonic
    _hosts: dict[int, _Host] = field(default_factory=dict[int, _Host])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def was_away(self, host_id: int) -> None:
        with self._lock:
            host = self._hosts.setdefault(host_id, _Host())
            host.failures += 1
            if host.failures >= self.failures:
                host.open_until = self.clock() + self.cooldown

    def answered(self, host_id: int) -> None:
        with self._lock:
            self._hosts.pop(host_id, None)

    def closed_hosts(self, busy: Iterable[int]) -> list[int]:
        """Hosts to claim nothing for: they cool down, or are probed just now by the work that is `busy` there."""
        working = set(busy)
        with self._lock:
            return [id_ for id_, host in self._hosts.items() if self._keeps_out(host, id_ in working)]

    def cooling(self) -> dict[int, float]:
        """Seconds each open host still cools down, for people."""
        with self._lock:
            now = self.clock()
            return {id_: host.open_until - now for id_, host in self._hosts.items() if host.open_until > now}

    def _keeps_out(self, host: _Host, working: bool) -> bool:  # noqa: FBT001 - private, one caller
        if host.failures < self.failures:
            return False
        return working or host.open_until > self.clock()
