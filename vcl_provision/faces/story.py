"""One request, whole, as of one moment: what `show`, `explain` and the live display speak of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from vcl_provision.faces.progress import RESTS, Line, Passed, lines
from vcl_provision.model.faults import Refused
from vcl_provision.model.states import RequestState
from vcl_provision.store import requests
from vcl_provision.store.database import Connection
from vcl_provision.store.requests import LoadStep, Machine, Status
from vcl_provision.workflow.lifecycle import FINAL


class NoSuchRequest(Refused):
    """There is no request of that number."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """`taken` is the moment on the database's clock; `now` goes on from there on ours, whatever ours says.

    Steps that ended before `seen` are left out: whoever looks has seen them.
    """

    status: Status
    machines: Sequence[Machine]
    steps: Sequence[LoadStep]
    boot_seconds: float
    taken: datetime
    seen: datetime | None = None
    _monotonic: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> datetime:
        return self.taken + timedelta(seconds=time.monotonic() - self._monotonic)

    @property
    def over(self) -> bool:
        return RequestState(self.status.state) in FINAL

    @property
    def granted(self) -> bool:
        """All its machines are open to the user's present address."""
        wanted = self.status.remote_address
        return wanted is not None and all(machine.granted_address == wanted for machine in self.machines)

    def waits(self, machine: Machine) -> bool:
        """Nobody works on it now: something has to come about first, or time to pass."""
        return machine.worked_on_by is None and machine.waiting_because is not None

    def waits_because(self, machine: Machine) -> str:
        """What it waits for, as people are told; empty if it does not wait.

        Who gave a request back is told nothing more of why it waited: that was said of the state before.
        """
        if self.over or self.status.state == RequestState.DELETED or not self.waits(machine):
            return ""
        return machine.waiting_because or ""

    def lines_of(self, machine: Machine) -> list[Line]:
        """The machine's steps, with their seconds up to now."""
        steps = [
            Passed(step=step.step, at=step.at, info=step.info)
            for step in self.steps
            if step.reservation_id == machine.reservation_id
        ]
        resting = self.over or self.waits(machine) or (bool(steps) and steps[-1].step in RESTS)
        drawn = lines(
            steps, now=self.now, since=self.status.since, resting=resting, boot_seconds=self.boot_seconds
        )
        return [line for line in drawn if self.seen is None or line.running or line.until >= self.seen]


def read_story(conn: Connection, request_id: int, *, seen: datetime | None = None) -> Story:
    """The request as it is now. Raises NoSuchRequest."""
    status = requests.status_of(conn, request_id)
    if status is None:
        raise NoSuchRequest(f"there is no request {request_id}", "vcl status --all shows the last ones")
    return Story(
        status=status,
        machines=requests.machines_of(conn, request_id),
        steps=requests.steps_of(conn, request_id),
        boot_seconds=requests.boot_seconds(conn, status.image),
        taken=requests.moment(conn),
        seen=seen,
    )
