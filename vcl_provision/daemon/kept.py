"""Things that cost much to open, opened once for all work; and locks over all management nodes."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

import structlog

from vcl_provision.channels.patience import Patience
from vcl_provision.store import locks
from vcl_provision.store.database import Database

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


class LabLocks:
    """Locks by name: first among this node's threads, then among nodes, in the database.

    Each in hand keeps a connection; together they keep half of the pool at most, so that leases are always renewed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._here: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._room = threading.Semaphore(max(1, database.max_size // 2))

    @contextlib.contextmanager
    def hold(self, name: str, *, patience: Patience) -> Generator[None]:
        """Held until left, or until this node dies. Raises TimedOut, Cancelled."""
        with (
            _held(self._here[name], f"the lock {name!r} on this node", patience),
            _held(self._room, "a connection for a lock", patience),
            locks.hold(self._database, name, patience=patience),
        ):
            yield

    @contextlib.contextmanager
    def together(self, name: str, *, patience: Patience) -> Generator[None]:
        """Held by any number at a time, while nobody holds it alone. Raises TimedOut, Cancelled."""
        with (
            _held(self._room, "a connection for a lock", patience),
            locks.together(self._database, name, patience=patience),
        ):
            yield


@contextlib.contextmanager
def _held(lock: threading.Lock | threading.Semaphore, what: str, patience: Patience) -> Generator[None]:
    patience.until(lambda: lock.acquire(blocking=False), what, every=0.1)
    try:
        yield
    finally:
        lock.release()
