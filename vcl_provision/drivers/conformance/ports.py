"""What a module under test is given in place of a daemon's database: the same ports, on files and in memory."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.drivers.driver import Driver
from vcl_provision.drivers.provisioner import GuestExec, Provisioner
from vcl_provision.drivers.task import Task
from vcl_provision.model.faults import Ran, Transient
from vcl_provision.model.lab import Computer
from vcl_provision.model.steps import Step

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Written:
    """One recorded undo, as it came back from the disk."""

    action: str
    scope: str
    arguments: dict[str, Any]


class EffectFile:
    """Undo written down in a file, a JSON line each, so that it outlives a killed process.

    `before` is called first, with the number of lines there already; it may raise, or kill.
    """

    def __init__(self, file: Path, before: Callable[[int], None] | None = None) -> None:
        self.file = file
        self._before = before

    def record(self, action: str, *, scope: str, **arguments: object) -> None:
        """Durable for a killed process when it returns. Raises TypeError for what is no plain JSON value."""
        line = json.dumps({"action": action, "scope": scope, "arguments": arguments})
        if self._before:
            self._before(len(self.written()))
        with self.file.open("a") as out:
            out.write(line + "\n")

    def written(self) -> list[Written]:
        """What was recorded since the last `forget`, oldest first."""
        if not self.file.exists():
            return []
        return [Written(**json.loads(line)) for line in self.file.read_text().splitlines()]

    def forget(self) -> None:
        self.file.unlink(missing_ok=True)

    def play_backwards(self, module: Driver[Any]) -> None:
        """What the daemon does at reclaim, failure and recovery; leaves the lines, to be played again."""
        for effect in reversed(self.written()):
            module.undo(effect.action, dict(effect.arguments))


class Steps:
    """The progress that a module told of; `heard` is called with each."""

    def __init__(self, heard: Callable[[str], None] | None = None) -> None:
        self.said: list[Step] = []
        self._heard = heard

    def say(self, step: Step, info: str = "") -> None:  # noqa: ARG002 - the port has it; the kit reads the steps
        self.said.append(step)
        if self._heard:
            self._heard(str(step))


class ProcessKept:
    """Things that cost much to open, one of each for all work of this process."""

    def __init__(self) -> None:
        self._things: dict[str, tuple[Any, Callable[[Any], None]]] = {}
        self._lock = threading.RLock()

    def get(self, key: str, make: Callable[[], T], close: Callable[[T], None]) -> T:
        with self._lock:
            if key not in self._things:
                self._things[key] = (make(), cast("Callable[[Any], None]", close))
            return cast("T", self._things[key][0])

    def drop(self, key: str) -> None:
        with self._lock:
            thing, close = self._things.pop(key, (None, None))
        if close:
            close(thing)

    def close(self) -> None:
        for key in list(self._things):
            self.drop(key)


class FileLocks:
    """Locks over all processes that use one folder; they fall when their holder dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, name: str, *, patience: Patience) -> Generator[None]:
        with self._locked(name, fcntl.LOCK_EX, patience):
            yield

    @contextmanager
    def together(self, name: str, *, patience: Patience) -> Generator[None]:
        with self._locked(name, fcntl.LOCK_SH, patience):
            yield

    @contextmanager
    def _locked(self, name: str, kind: int, patience: Patience) -> Generator[None]:
        file = self._folder / f"{sha256(name.encode()).hexdigest()[:24]}.lock"
        with file.open("w") as lock:
            patience.until(lambda: _taken(lock.fileno(), kind), f"the lock {name!r}", every=0.02)
            yield


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class InsideGuests:
    """The way into guests of a module that runs commands inside by itself."""

    def __init__(self, provisioner: GuestExec) -> None:
        self._provisioner = provisioner

    def channel(self, computer: Computer, *, patience: Patience) -> Channel:
        patience.check()
        return self._provisioner.guest_channel(computer)

    def forget(self, computer: Computer) -> None:
        """Nothing is kept."""


def make_provisioner(module: type[Provisioner[Any]], options: object, task: Task) -> Provisioner[Any]:
    """The module, made as a daemon makes it: one that runs commands inside by itself is the way into its own guests."""
    made = module(options, task)
    if isinstance(made, GuestExec):
        made.task = replace(task, guests=InsideGuests(made))
    return made


class EagerGuests:
    """Says at once that the guest answers: for what is tried with machines that need not boot."""

    def channel(self, computer: Computer, *, patience: Patience) -> Channel:  # noqa: ARG002 - the port has them
        patience.check()
        return NoChannel()

    def forget(self, computer: Computer) -> None:
        """Nothing is kept."""


class SilentGuests:
    """A guest that never answers; `asked` is called each time that it is tried."""

    def __init__(self, asked: Callable[[], None]) -> None:
        self._asked = asked

    def channel(self, computer: Computer, *, patience: Patience) -> Channel:
        patience.check()
        self._asked()
        raise Transient(f"{computer.name} does not answer")

    def forget(self, computer: Computer) -> None:
        """Nothing is kept."""


class NoChannel:
    """Stands for a guest that was not waited for: nothing can be run in it."""

    def run(self, *_: object, **__: object) -> Ran:
        raise Transient("there is no way in: this guest was not waited for")

    def put(self, *_: object, **__: object) -> None:
        raise Transient("there is no way in: this guest was not waited for")

    def close(self) -> None:
        """Nothing is open."""
