"""What happens at regular times, whatever is heard or not: APScheduler's part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler


@dataclass(frozen=True, kw_only=True)
class Tick:
    """`act` is called each `every` seconds, with `at_once` also when the daemon starts.

    `own_thread`: it must not wait behind other ticks, or they behind it.
    """

    name: str
    every: float
    act: Callable[[], None]
    own_thread: bool = False
    at_once: bool = False


class Ticks:
    """Each tick runs once at a time; what was missed while it ran is one more run, not many."""

    def __init__(self, ticks: list[Tick]) -> None:
        executors = {"default": ThreadPoolExecutor(2)}
        executors |= {tick.name: ThreadPoolExecutor(1) for tick in ticks if tick.own_thread}
        self._scheduler: Any = BackgroundScheduler(executors=executors, timezone="UTC")
        for tick in ticks:
            self._scheduler.add_job(
                tick.act,
                "interval",
                seconds=tick.every,
                id=tick.name,
                name=tick.name,
                executor=tick.name if tick.own_thread else "default",
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
                **({"next_run_time": datetime.now(UTC)} if tick.at_once else {}),
            )

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)
