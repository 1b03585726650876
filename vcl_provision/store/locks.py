"""Named locks over all management nodes: session-level advisory locks, gone with the connection that holds them."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Generator

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import TimedOut
from vcl_provision.store.database import AWAY, Database, DatabaseAway, Listener

EVERY = 0.25
"""Seconds between two tries; whoever waits here waits for a copy of an image, which takes many of these."""


class LabLocks:
    """Locks by name: first among this node's threads, then among nodes, in the database.

    All in hand share one connection beside the pool, opened for the first and closed after the last: however many
    images are copied at a time, each to its host, leases are renewed and outcomes written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._here: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self._session: Listener | None = None
        self._users = 0

    @contextlib.contextmanager
    def hold(self, name: str, *, patience: Patience) -> Generator[None]:
        """Held until left, or until this process or the connection dies. Raises TimedOut, Cancelled.

        A database that is away is waited for like a lock; one that goes away takes the lock with it and does not
        disturb the holder.
        """
        with _held(self._here[name], f"the lock {name!r} on this node", patience), self._used():
            session = self._taken(name, patience)
            try:
                yield
            finally:
                self._give_back(session, name)

    @contextlib.contextmanager
    def _used(self) -> Generator[None]:
        with self._guard:
            self._users += 1
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1
                if not self._users:
                    self._close()

    def _taken(self, name: str, patience: Patience) -> Listener:
        while patience.remaining:
            if session := self._try(name):
                return session
            patience.sleep(EVERY)
        raise TimedOut(
            f"the lock {name!r} stayed with another node", "see which node copies that image, and how far it is"
        )

    def _try(self, name: str) -> Listener | None:
        with self._guard:
            try:
                session = self._session = self._session or self._database.listener(())
                row = session.connection.execute(
                    "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name]
                ).fetchone()
            except (DatabaseAway, *AWAY):
                self._close()
                return None
            return session if row and row[0] else None

    def _give_back(self, session: Listener, name: str) -> None:
        with self._guard, contextlib.suppress(*AWAY):
            session.connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


@contextlib.contextmanager
def _held(lock: threading.Lock, what: str, patience: Patience) -> Generator[None]:
    patience.until(lambda: lock.acquire(blocking=False), what, every=0.1)
    try:
        yield
    finally:
        lock.release()
