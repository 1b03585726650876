"""CPU seconds and memory of the lab's processes, beside what everybody else on the machine took meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds: on the clock, and of CPU by part. `others`: whoever else ran on this machine."""

    wall: float
    vcld: float
    postgres: float
    client: float
    others: float

    @property
    def ours(self) -> float:
        return self.vcld + self.postgres + self.client

    def __sub__(self, before: Spent) -> Spent:
        return Spent(
            wall=self.wall - before.wall,
            vcld=self.vcld - before.vcld,
            postgres=self.postgres - before.postgres,
            client=self.client - before.client,
            others=self.others - before.others,
        )


@dataclass(frozen=True, kw_only=True)
class Meter:
    """`daemon` and `postmaster` are process ids; the client is this process."""

    daemon: int
    postmaster: int

    def spent(self) -> Spent:
        """Up to now, from an arbitrary beginning: take two and subtract."""
        busy = psutil.cpu_times()
        vcld, postgres, client = _cpu(psutil.Process(self.daemon)), self._postgres_cpu(), time.process_time()
        everybody = sum(busy) - busy.idle - busy.iowait - busy.guest - busy.guest_nice  # guests are in user already
        return Spent(
            wall=time.monotonic(),
            vcld=vcld,
            postgres=postgres,
            client=client,
            others=everybody - vcld - postgres - client,
        )

    def daemon_bytes(self) -> int:
        """vcld's memory, what it shares with others counted in part (PSS)."""
        return _pss(psutil.Process(self.daemon))

    def postgres_bytes(self) -> int:
        """That of all of PostgreSQL's processes; its shared memory is in it once."""
        return sum(_pss(process) for process in self._postgres())

    def _postgres_cpu(self) -> float:
        """Sessions that ended are in the postmaster's sum of its children."""
        ended = psutil.Process(self.postmaster).cpu_times()
        return sum(_cpu(process) for process in self._postgres()) + ended.children_user + ended.children_system

    def _postgres(self) -> Iterator[psutil.Process]:
        postmaster = psutil.Process(self.postmaster)
        yield postmaster
        yield from postmaster.children()


def _cpu(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0


def _pss(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.memory_full_info().pss
    return 0
