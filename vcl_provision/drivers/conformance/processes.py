"""Calls of a module in processes of their own, to be killed in the middle: the kit's side of it."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO

from vcl_provision.drivers.conformance.item import Broken

CALLING = "calling"
STARTS = 60.0
"""Seconds in which a process of ours has started on any machine."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a child is to do: `kill_at` is the number of the recorded step at which it kills itself, -1 for none."""

    file: str
    against: Mapping[str, object]
    folder: str
    name: str
    kill_at: int = -1
    guest: str = ""
    guest_options: Mapping[str, object] = field(default_factory=dict[str, object])
    host_key: str = ""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended: its exit status (below zero: the signal), the seconds of the call, what it said went wrong."""

    status: int
    seconds: float = 0.0
    wrong: str = ""


class ChildServer:
    """A process that has everything imported and forks one child per call, one at a time. Starts with the first."""

    def __init__(self) -> None:
        self._process: Popen[str] | None = None
        self._heard: queue.Queue[str] = queue.Queue()

    @contextmanager
    def calling(self, call: Call) -> Generator[Child]:
        """A child that has just begun the call; what is left of it is killed at the end."""
        self._ask(json.dumps(asdict(call), default=str))
        child = Child(int(self._next("pid", STARTS)), self._heard)
        try:
            child.await_call()
            yield child
        finally:
            if child.ended(0.0) is None:
                kill_tree(child.pid)
                child.ended(STARTS)

    def close(self) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.close()
            self._process.wait(STARTS)

    def _ask(self, line: str) -> None:
        if self._process is None:
            argv = [sys.executable, "-m", "vcl_provision.drivers.conformance.child"]
            self._process = Popen(argv, stdin=PIPE, stdout=PIPE, text=True)  # noqa: S603 - our own program
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        if self._process.stdin:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _listen(self, said: IO[str]) -> None:
        with said:
            for line in said:
                self._heard.put(line.rstrip("\n"))

    def _next(self, word: str, limit: float) -> str:
        said, _, rest = self._heard.get(timeout=limit).partition(" ")
        if said != word:
            raise RuntimeError(f"the kit's child said {said!r}, not {word!r}")
        return rest


class Child:
    """One call in its own process."""

    def __init__(self, pid: int, heard: queue.Queue[str]) -> None:
        self.pid = pid
        self._heard = heard
        self._seconds = 0.0
        self._wrong = ""
        self._end: Ended | None = None

    def await_call(self) -> None:
        """Until it begins. Raises Broken if it fails before."""
        while not self._hear(STARTS):
            if self._end:
                raise Broken(f"in a process of its own nothing can be called: {self._wrong}")

    def ended(self, limit: float) -> Ended | None:
        """How it ended; None if it did not, in so many seconds."""
        while self._end is None:
            try:
                self._hear(limit)
            except queue.Empty:
                return None
        return self._end

    def _hear(self, limit: float) -> bool:
        word, _, rest = self._heard.get(timeout=limit).partition(" ")
        match word:
            case "took":
                self._seconds = float(rest)
            case "failed":
                self._wrong = rest
            case "exit":
                self._end = Ended(status=int(rest), seconds=self._seconds, wrong=self._wrong)
            case _:
                pass
        return word == CALLING


def kill_tree(pid: int) -> None:
    """Kills a process and all that it started and that did not leave it: a management node that loses its power."""
    for each in [pid, *descendants(pid)]:
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue


def descendants(pid: int) -> list[int]:
    """Processes that the process started, and theirs."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        children = [each for each, its in parents.items() if its == parent]
        found += children
        waiting += children
    return found
