"""A program that goes on when we have ended: held by a lock that lives as long as it does."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from vcl_provision.channels.patience import Patience

KILLED = 10.0
"""Seconds in which the system clears away a process that was killed."""

_children: dict[Path, subprocess.Popen[bytes]] = {}
"""Those that this process started: when one has ended, its parent must ask, or it stays as a zombie."""


class Background:
    """One program in the background, known by its lock file.

    The program inherits the locked file and keeps it until it ends, however it ends: whether it runs is asked of the
    lock, and its process id in the file is believed only then. No other process can be mistaken for it.
    """

    def __init__(self, lock: Path) -> None:
        self._lock = lock

    def running(self) -> int | None:
        """Its process id (0 in the instant of its start), None if it does not run."""
        with suppress(FileNotFoundError), self._lock.open(encoding="ascii") as file:
            if not _locked(file.fileno()):
                return int(file.read() or 0)
        self._reap()
        return None

    def start(self, argv: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> int:
        """Starts it in a session of its own, its output appended to `log`; returns its process id.

        Raises FileExistsError if it runs already, OSError if it cannot be started.
        """
        with self._lock.open("a+", encoding="ascii") as lock, log.open("ab") as output:
            if not _locked(lock.fileno()):
                raise FileExistsError(f"{argv[0]} runs already, as process {self.running()}")
            lock.truncate(0)
            child = subprocess.Popen(  # noqa: S603 - an argument list, never a shell
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
            _children[self._lock] = child
            lock.write(f"{child.pid}\n")
        return child.pid

    def stop(self, *, patience: Patience) -> bool:
        """Tells it to end and waits until it has; killed when patience ends. False if it did not run."""
        process = self.running()
        if not process:
            return False
        _signal(process, signal.SIGTERM)
        while self.running() and patience.remaining:
            patience.sleep(0.05)
        if self.running():
            _signal(process, signal.SIGKILL)
            Patience(KILLED).until(lambda: self.running() is None, f"process {process} to be gone", every=0.02)
        return True

    def _reap(self) -> None:
        """An ending process lets go of its lock a moment before its parent may reap it: that moment is waited for."""
        if child := _children.pop(self._lock, None):
            child.wait(KILLED)


def _signal(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _locked(descriptor: int) -> bool:
    """True if the lock is ours now: nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
