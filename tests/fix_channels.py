"""What tests of channels share: an audit that remembers, and who still runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Ran


@dataclass
class Heard:
    """An audit that remembers what it was told."""

    commands: list[tuple[str, Ran, bool]] = field(default_factory=list[tuple[str, Ran, bool]])

    def ran(self, where: str, ran: Ran, *, changes: bool) -> None:
        self.commands.append((where, ran, changes))

    @property
    def last(self) -> Ran:
        return self.commands[-1][1]


def cancel_once_written(file: Path, patience: Patience) -> threading.Thread:
    """Cancels the patience as soon as the file has something in it: what a command under test wrote when it began."""

    def wait() -> None:
        Patience(60).until(lambda: file.exists() and file.read_text(), f"{file} to be written", every=0.01)
        patience.cancel()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def patience() -> Patience:
    """Long enough for a machine under load; a test that waits so long has failed."""
    return Patience(60)


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Waits until the process is gone or dead, as long as an orphan needs to be reaped."""

    def ask(pid: int) -> bool:
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            try:
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    return True
            except psutil.NoSuchProcess:
                return True
            time.sleep(0.02)
        return False

    return ask
