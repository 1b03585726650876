"""Named locks over all management nodes: session-level advisory locks, gone with the connection that holds them."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import LiteralString

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import TimedOut
from vcl_provision.store.database import AWAY, Database, DatabaseAway, Listener

EVERY = 0.1
"""Seconds between two tries; whoever waits here waits for a copy of an image, which takes many of these."""


@dataclass(frozen=True)
class Way:
    """How a lock is taken and given back."""

    take: LiteralString
    give_back: LiteralString


ALONE = Way(
    "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))",
    "SELECT pg_advisory_unlock(hashtextextended(%s, 0))",
)
TOGETHER = Way(
    "SELECT pg_try_advisory_lock_shared(hashtextextended(%s, 0))",
    "SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))",
)


@dataclass(kw_only=True)
class LabLocks:
    """Locks by name: first among this node's threads, then among nodes, in the database.

    All in hand share one connection beside the pool, opened for the first and closed after the last: however many
    images are copied at a time, each to its host, leases are renewed and outcomes written. To the server one connection
    is one holder, so that what this node's threads hold against each other is counted here.
    """

    database: Database
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _session: Listener | None = None
    _users: int = 0
    _alone: set[str] = field(default_factory=set[str])
    _together: Counter[str] = field(default_factory=Counter[str])

    @contextlib.contextmanager
    def hold(self, name: str, *, patience: Patience) -> Generator[None]:
        """Held by one until left, or until this process or the connection dies. Raises TimedOut, Cancelled.

        A database that is away is waited for like a lock; one that goes away takes the lock with it and does not
        disturb the holder.
        """
        with self._held(name, ALONE, patience):
            yield

    @contextlib.contextmanager
    def together(self, name: str, *, patience: Patience) -> Generator[None]:
        """As `hold`, by any number at a time, while nobody holds it alone."""
        with self._held(name, TOGETHER, patience):
            yield

    @contextlib.contextmanager
    def _held(self, name: str, way: Way, patience: Patience) -> Generator[None]:
        with self._guard:
            self._users += 1
        try:
            session = self._taken(name, way, patience)
            try:
                yield
            finally:
                self._give_back(session, name, way)
        finally:
            with self._guard:
                self._users -= 1
                if not self._users:
                    self._close()

    def _taken(self, name: str, way: Way, patience: Patience) -> Listener:
        where = "another node"
        while patience.remaining:
            with self._guard:
                if session := self._try(name, way):
                    return session
                where = "this node" if self._is_taken_here(name, way) else "another node"
            patience.sleep(EVERY)
        raise TimedOut(
            f"the lock {name!r} stayed with {where}", "see which node copies that image, and how far it is"
        )

    def _is_taken_here(self, name: str, way: Way) -> bool:
        return name in self._alone or (way is ALONE and self._together[name] > 0)

    def _try(self, name: str, way: Way) -> Listener | None:
        if self._is_taken_here(name, way):
            return None
        try:
            session = self._session = self._session or self.database.listener(())
            row = session.connection.execute(way.take, [name]).fetchone()
        except (DatabaseAway, *AWAY):
            self._close()
            return None
        if not (row and row[0]):
            return None
        if way is ALONE:
            self._alone.add(name)
        else:
            self._together[name] += 1
        return session

    def _give_back(self, session: Listener, name: str, way: Way) -> None:
        with self._guard:
            if way is ALONE:
                self._alone.discard(name)
            else:
                self._together[name] -= 1
            with contextlib.suppress(*AWAY):
                session.connection.execute(way.give_back, [name])

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
