"""Things that cost much to open, opened once for all work."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar, cast

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


class KeptThings:
    """One of each key; two that ask at once get the same, and one asking for another key waits for neither."""

    def __init__(self) -> None:
        self._things: dict[str, tuple[Any, Callable[[Any], None]]] = {}
        self._making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], T], close: Callable[[T], None]) -> T:
        kept = self._things.get(key)
        if kept is not None:
            return cast("T", kept[0])
        with self._lock:
            making = self._making[key]
        with making:
            if key not in self._things:
                self._things[key] = (make(), close)
            return cast("T", self._things[key][0])

    def drop(self, key: str) -> None:
        """Closes and forgets it: the next one who asks gets a new one."""
        thing, close = self._things.pop(key, (None, None))
        if close is None:
            return
        try:
            close(thing)
        except Exception as error:  # noqa: BLE001 - whatever a module's client raises, it is to be gone
            log.debug("kept.close_failed", key=key, error=str(error))

    def close(self) -> None:
        for key in list(self._things):
            self.drop(key)
