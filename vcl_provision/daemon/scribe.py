"""Writes journal and load log in batches, so that no work waits for its own diary."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence

import structlog

from vcl_provision.store import journal
from vcl_provision.store.database import Database, DatabaseAway

log = structlog.get_logger(__name__)

BATCH = 500
GATHER = 0.05
"""Seconds that a batch waits for more: what people follow must look immediate."""
RETRY = 1.0
"""Seconds before what could not be written is tried again."""


class Scribe:
    """A queue and the thread that empties it. While the database is away lines are kept, up to `KEPT`."""

    KEPT = 50_000

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lines: queue.SimpleQueue[journal.Line | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="scribe", daemon=True)
        self._unsaved: list[journal.Line] = []

    def start(self) -> None:
        self._thread.start()

    def write(self, line: journal.Line) -> None:
        self._lines.put(line)

    def stop(self) -> None:
        """Writes what is left, then ends. Nothing to do if it was never started."""
        self._lines.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _write_all(self) -> None:
        going = True
        while going:
            going = self._gather()
            self._save()

    def _gather(self) -> bool:
        """Waits for a line, then takes what comes within GATHER; False when it is time to end."""
        wait = RETRY if self._unsaved else None
        while True:
            try:
                line = self._lines.get(timeout=wait)
            except queue.Empty:
                return True
            if line is None:
                return False
            self._unsaved.append(line)
            if len(self._unsaved) >= BATCH:
                return True
            wait = GATHER

    def _save(self) -> None:
        try:
            if self._unsaved:
                self._write(self._unsaved)
        except DatabaseAway as away:
            log.warning("journal.waits", lines=len(self._unsaved), because=str(away))
            del self._unsaved[: -self.KEPT]
        except Exception:
            log.exception("journal.unwritable")
            self._save_singly()
        else:
            self._unsaved.clear()

    def _save_singly(self) -> None:
        """One of them is not what a database takes: it costs itself, not the others nor the diary from then on."""
        lines, self._unsaved = self._unsaved, []
        for line in lines:
            with contextlib.suppress(Exception):
                self._write([line])

    def _write(self, lines: Sequence[journal.Line]) -> None:
        with self._database.transaction() as conn:
            journal.write(conn, lines)
