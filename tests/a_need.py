"""What a test needs of the machine it runs on: named when it is missing, and never missing where CI runs it."""

from __future__ import annotations

import os
import shutil

import pytest

PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def need(*programs: str) -> None:
    """Skips, saying which programs are not there; fails instead under CI=true."""
    missing = [program for program in programs if not shutil.which(program, path=PLACES)]
    if missing:
        _missing(f"not installed: {', '.join(missing)}")


def need_root() -> None:
    """Skips what only root can try; fails instead under CI=true."""
    if os.geteuid() != 0:
        _missing("only root may make networks")


def _missing(said: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(said)
    pytest.skip(said)
