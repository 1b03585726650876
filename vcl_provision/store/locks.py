"""Named locks over all management nodes: session-level advisory locks, gone with the connection that holds them."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import LiteralString

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import TimedOut
from vcl_provision.store.database import AWAY, Connection, Database, DatabaseAway

EVERY = 0.25
"""Seconds between two tries; whoever waits here waits for a copy of an image, which takes many of these."""


@contextlib.contextmanager
def hold(database: Database, name: str, *, patience: Patience) -> Generator[None]:
    """Held by one until left, or until this process or its connection dies. Raises TimedOut, Cancelled.

    A connection is taken only while trying and while holding, so that many who wait do not empty the pool. A database
    that is away is waited for like a lock; one that goes away takes the lock with it and does not disturb the holder.
    """
    with _held(database, name, patience, _ALONE):
        yield


@contextlib.contextmanager
def together(database: Database, name: str, *, patience: Patience) -> Generator[None]:
    """As `hold`, by any number at a time, while nobody holds it alone."""
    with _held(database, name, patience, _TOGETHER):
        yield


_Ways = tuple[LiteralString, LiteralString]
_ALONE: _Ways = (
    "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))",
    "SELECT pg_advisory_unlock(hashtextextended(%s, 0))",
)
_TOGETHER: _Ways = (
    "SELECT pg_try_advisory_lock_shared(hashtextextended(%s, 0))",
    "SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))",
)


@contextlib.contextmanager
def _held(database: Database, name: str, patience: Patience, ways: _Ways) -> Generator[None]:
    while patience.remaining:
        with contextlib.ExitStack() as held:
            if _take(held, database, name, ways):
                yield
                return
        patience.sleep(EVERY)
    raise TimedOut(f"the lock {name!r} stayed with another node", "see which node copies that image, and how far it is")


def _take(held: contextlib.ExitStack, database: Database, name: str, ways: _Ways) -> bool:
    take, give_back = ways
    try:
        conn = held.enter_context(database.session())
        row = conn.execute(take, [name]).fetchone()
    except (DatabaseAway, *AWAY):
        return False
    if row and row[0]:
        held.callback(_give_back, conn, name, give_back)
        return True
    return False


def _give_back(conn: Connection, name: str, give_back: LiteralString) -> None:
    with contextlib.suppress(*AWAY):
        conn.execute(give_back, [name])
