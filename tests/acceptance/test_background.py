"""A program in the background is known by its lock, so that nothing else is ever mistaken for it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from vcl_provision.channels.background import Background
from vcl_provision.channels.patience import Patience

SLEEPS = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
DEAF = [*SLEEPS[:2], f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS[2]}"]
SLOW_TO_END = [*SLEEPS[:2], "import os, time; os.closerange(3, 1024); print('here', flush=True); time.sleep(0.3)"]
"""Lets go of its lock some time before it is gone: what every process does, drawn out."""


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Background]:
    program = Background(tmp_path / "pid")
    yield program
    program.stop(patience=Patience(0))


def start(background: Background, argv: list[str], folder: Path) -> int:
    pid = background.start(argv, log=folder / "log", environment={})
    Patience(10).until(lambda: (folder / "log").stat().st_size, "its first word")
    return pid


def test_it_runs_until_it_is_stopped_and_its_output_is_kept(background: Background, tmp_path: Path) -> None:
    pid = start(background, SLEEPS, tmp_path)
    assert background.running() == pid
    assert background.stop(patience=Patience(10))
    assert background.running() is None
    assert (tmp_path / "log").read_text() == "here\n"


def test_it_is_not_started_twice(background: Background, tmp_path: Path) -> None:
    start(background, SLEEPS, tmp_path)
    with pytest.raises(FileExistsError, match="runs already"):
        background.start(SLEEPS, log=tmp_path / "log", environment={})


def test_one_that_was_killed_runs_no_more(background: Background, tmp_path: Path) -> None:
    pid = start(background, SLEEPS, tmp_path)
    os.kill(pid, signal.SIGKILL)
    Patience(10).until(lambda: background.running() is None, "its lock to be free")
    assert not background.stop(patience=Patience(1))


def test_one_that_has_ended_leaves_no_zombie(background: Background, tmp_path: Path) -> None:
    pid = start(background, SLOW_TO_END, tmp_path)
    Patience(10).until(lambda: background.running() is None, "its lock to be free", every=0.01)
    assert not psutil.pid_exists(pid)


def test_one_that_does_not_listen_is_killed_when_patience_ends(background: Background, tmp_path: Path) -> None:
    start(background, DEAF, tmp_path)
    assert background.stop(patience=Patience(0.2))
    assert background.running() is None


def test_a_process_id_that_somebody_else_has_now_is_not_believed(background: Background, tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    assert background.running() is None
    assert not background.stop(patience=Patience(1))
