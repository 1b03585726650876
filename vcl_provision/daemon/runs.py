"""The register of what this daemon works on now."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from vcl_provision.daemon.stop import WorkStop
from vcl_provision.model.reservation import Claim
from vcl_provision.store.work import Gathered


@dataclass(kw_only=True)
class Run:
    """One claim in hand. `stop` ends every wait of its work; `lost` says that another node has it."""

    claim: Claim
    stop: WorkStop
    lost: bool = False
    closing: bool = False
    """The daemon stops: hand it back as it is."""
    known: Gathered | None = None
    """The lab as the last turn's outcome left it: the next one need not ask."""
    due_in: float | None = None
    """Seconds after which it is to be looked at again, once it was given back."""

    def lose(self) -> None:
        self.lost = True
        self.stop.set()

    def begin_turn(self) -> None:
        """What stopped the last one is asked for anew."""
        self.stop.clear()
        if self.lost or self.closing:
            self.stop.set()

    def hand_back(self) -> None:
        self.closing = True
        self.stop.set()


class Runs:
    """Thread-safe; a reservation is in it at most once."""

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}
        self._changed = threading.Condition()

    def add(self, run: Run) -> None:
        with self._changed:
            self._runs[run.claim.reservation_id] = run

    def remove(self, run: Run) -> None:
        with self._changed:
            if self._runs.get(run.claim.reservation_id) is run:
                del self._runs[run.claim.reservation_id]
            self._changed.notify_all()

    def all(self) -> list[Run]:
        with self._changed:
            return list(self._runs.values())

    def on_host(self) -> dict[int, int]:
        """How many are at work on each VM host."""
        counts: dict[int, int] = {}
        for run in self.all():
            if run.claim.host_id is not None:
                counts[run.claim.host_id] = counts.get(run.claim.host_id, 0) + 1
        return counts

    def __len__(self) -> int:
        return len(self._runs)

    def wait_empty(self, seconds: float) -> bool:
        """Until nothing is in hand, so long at most."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._runs, timeout=seconds)
