"""Writes journal and load log in batches, so that no work waits for its own diary."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence

import structlog

from vcl_provision.store import journal
from vcl_provision.store.database import Database, DatabaseAway

log = structlog.get_logger(__name__)

BATCH = 100
"""Lines of one statement: five times as many cost 3 MB in both processes, and save nothing that can be measured."""
GATHER = 0.05
"""Seconds that a line waits for more: what people follow must look immediate."""
RETRY = 1.0
"""Seconds before what could not be written is tried again."""


class Scribe:
    """A diary and the thread that writes it out. While the database is away lines are kept, up to `KEPT`.

    The thread sleeps while lines come in: to wake it for each would cost a switch of threads, two dozen in each load.
    """

    KEPT = 50_000

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lines: deque[journal.Line] = deque()
        self._something = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="scribe", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def write(self, line: journal.Line) -> None:
        self._lines.append(line)
        if not self._something.is_set():
            self._something.set()

    def stop(self) -> None:
        """Writes what is left, then ends. Nothing to do if it was never started."""
        self._stopping.set()
        self._something.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _write_all(self) -> None:
        going = True
        while going:
            self._something.wait()
            going = not self._stopping.wait(GATHER)
            self._something.clear()  # before they are taken: a line that comes meanwhile is seen by the next round
            self._save_all()

    def _save_all(self) -> None:
        """All that was there when it began: what comes meanwhile waits for its fellows, as always."""
        for _ in range(0, len(self._lines), BATCH):
            if not self._save([self._lines.popleft() for _ in range(min(BATCH, len(self._lines)))]):
                self._stopping.wait(RETRY)
                self._something.set()
                return

    def _save(self, batch: Sequence[journal.Line]) -> bool:
        """False if the database is away: they are lines still to be written."""
        try:
            self._write(batch)
        except DatabaseAway as away:
            self._lines.extendleft(reversed(batch))
            log.warning("journal.waits", lines=len(self._lines), because=str(away))
            for _ in range(len(self._lines) - self.KEPT):
                self._lines.popleft()
            return False
        except Exception:
            log.exception("journal.unwritable")
            self._save_singly(batch)
        return True

    def _save_singly(self, lines: Sequence[journal.Line]) -> None:
        """One of them is not what a database takes: it costs itself, not the others nor the diary from then on."""
        for line in lines:
            with contextlib.suppress(Exception):
                self._write([line])

    def _write(self, lines: Sequence[journal.Line]) -> None:
        with self._database.transaction() as conn:
            journal.write(conn, lines)
