"""Processes of this machine, seen from outside."""

from __future__ import annotations

import os
import time
from pathlib import Path

SOON = 60.0
"""Seconds: one that was killed while the disk keeps it waiting goes when the disk answers."""


def processes(word: str) -> list[str]:
    """Command lines of others with this word in them."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line and process.name != str(os.getpid()):
            found.append(line)
    return found


def gone(word: str) -> bool:
    """Whether there are none soon: one that was killed takes a moment."""
    ends = time.monotonic() + SOON
    while processes(word) and time.monotonic() < ends:
        time.sleep(0.02)
    return not processes(word)
