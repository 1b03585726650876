"""The builder: takes images to be built from the queue, one after another, in a process of its own beside vcld.

A build runs in one thread while another keeps its lease, writes down what it says and hears whether it is to stop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

import structlog

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Cancelled, ProvisionError
from vcl_provision.store import builds
from vcl_provision.store.builds import ClaimedBuild, Ending, Standing
from vcl_provision.store.database import Connection, Database, DatabaseAway, Listener

log = structlog.get_logger(__name__)

Say = Callable[[str], None]
Make = Callable[[Mapping[str, object], Patience, Say], str]
"""Builds what a spec says and returns the name of the revision; its second argument ends it, its third hears lines."""

BEAT = 0.5
"""Seconds between two times that a running build's lines are written down and its lease is renewed."""
LOOKS = 5.0
"""Seconds after which the queue is looked at, whether or not something was heard."""
SLICE = 0.5
"""Seconds between two looks whether to stop."""
ENDS = 60.0
"""Seconds that a build which was told to stop may take for it."""


@dataclass(kw_only=True)
class Builder:
    """`name` says who builds; `lease` and `budget` in seconds: how long a claim lasts, and a build at most."""

    database: Database
    name: str
    make: Make
    lease: float
    budget: float
    _stopping: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Takes no more; what is in hand goes back into the queue. Safe in a signal handler."""
        self._stopping.set()

    def serve(self) -> None:
        """Until told to stop; a database that is away is waited for. Raises DatabaseAway if it is away at the start."""
        listener = self._connect()
        log.info("builder.started", builder=self.name)
        while not self._stopping.is_set():
            try:
                with closing(listener or self._connect()) as listener:
                    self._take_on(listener)
            except DatabaseAway as away:
                log.warning("builder.waits_for_database", because=str(away))
                self._stopping.wait(BEAT)
            listener = None
        log.info("builder.stopped", builder=self.name)

    def _connect(self) -> Listener:
        return self.database.listener([builds.CHANNEL])

    def _take_on(self, listener: Listener) -> None:
        while not self._stopping.is_set():
            if not self.take_one():
                self._wait(listener)

    def _wait(self, listener: Listener) -> None:
        """Until something is heard, it is time to look, or the end has come."""
        looks = time.monotonic() + LOOKS
        while time.monotonic() < looks and not self._stopping.is_set() and not listener.heard(SLICE):
            pass

    def take_one(self) -> bool:
        """Builds the next in the queue; False if there is none. Raises DatabaseAway."""
        with self.database.session() as conn:
            build = builds.claim(conn, builder=self.name, lease_seconds=self.lease)
        if build is None:
            return False
        log.info("build.began", build=build.id, key=build.key)
        BuildInHand(builder=self, build=build, stopping=self._stopping).see_through()
        return True


@dataclass(kw_only=True)
class BuildInHand:
    """One build, from its claim to its end."""

    builder: Builder
    build: ClaimedBuild
    stopping: threading.Event
    _said: list[str] = field(default_factory=list[str])
    _revision: str = ""
    _failed: Exception | None = None
    _standing: Standing = Standing.GOES_ON

    def __post_init__(self) -> None:
        self._patience = Patience(self.builder.budget)
        self._sure_until = time.monotonic() + self.builder.lease
        self._work = threading.Thread(target=self._build, name=f"build-{self.build.id}", daemon=True)

    def see_through(self) -> None:
        """Until it has ended, was cancelled, was lost, or goes back into the queue because the builder is to stop."""
        self._work.start()
        while self._work.is_alive() and self._standing is Standing.GOES_ON and not self.stopping.is_set():
            self._work.join(BEAT)
            self._beat()
        self._patience.cancel()
        self._work.join(ENDS)
        self._ask(self._tell)
        if self._standing is not Standing.LOST:
            self._ask(self._settle)
        log.info("build.ended", build=self.build.id, revision=self._revision, failed=str(self._failed or ""))

    def _build(self) -> None:
        try:
            self._revision = self.builder.make(self.build.spec, self._patience, self._said.append)
        except Exception as error:  # noqa: BLE001 - whatever it was, the build failed of it and people are told
            self._failed = error

    def _beat(self) -> None:
        """Away from the database, the lease is reckoned here."""
        try:
            with self.builder.database.session() as conn:
                self._tell(conn)
        except DatabaseAway:
            if time.monotonic() > self._sure_until:
                self._standing = Standing.LOST

    def _tell(self, conn: Connection) -> None:
        """Renews the lease, writes down what was said and hears how it stands."""
        lines, asked = self._said[:], time.monotonic()
        self._standing = builds.carry_on(conn, self.build, lines=lines, lease_seconds=self.builder.lease)
        self._sure_until = asked + self.builder.lease
        del self._said[: len(lines)]

    def _settle(self, conn: Connection) -> None:
        if self._revision:
            builds.finish(conn, self.build, Ending.DONE, revision_name=self._revision)
        elif self._standing is Standing.CANCELLED:
            builds.finish(conn, self.build, Ending.CANCELLED)
        elif isinstance(self._failed, Cancelled):
            builds.hand_back(conn, self.build)
        else:
            said, hint = _fault(self._failed)
            builds.finish(conn, self.build, Ending.FAILED, said=said, hint=hint)

    def _ask(self, question: Callable[[Connection], None]) -> None:
        """Until the database has heard it, or the lease has ended and with it our say."""
        while time.monotonic() < self._sure_until:
            try:
                with self.builder.database.session() as conn:
                    return question(conn)
            except DatabaseAway:
                time.sleep(BEAT)
        return None


def _fault(failed: Exception | None) -> tuple[str, str]:
    if isinstance(failed, ProvisionError):
        return failed.said, failed.hint
    if failed is None:
        return f"it was told to stop and did not within {ENDS:.0f} s", "its programs may still run: see its log"
    return f"{type(failed).__name__}: {failed}", "a defect of the builder: its log has the way there"
