"""What every channel does alike with a command: keeps the end of what it said, judges its status, ends it in time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import CommandFailed, Ran, TimedOut

LOOK = 0.05
"""Seconds between two looks whether the work was cancelled; everything else wakes us."""

KEEP = 256 * 1024
"""Bytes kept of each stream: enough for every answer that is parsed, and a bound for a command gone mad."""

KILLED = -9
"""The status of a command that we ended: at its deadline, or because nobody wanted it any more."""

NOT_FOUND = 127
"""What a shell answers for a program that is not there; the same when there is no shell in between."""


class Tail:
    """Takes in everything, keeps the last `keep` bytes."""

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._seen = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._held += len(piece)
        self._seen += len(piece)
        while self._held - len(self._pieces[0]) >= self._keep:
            self._held -= len(self._pieces.popleft())

    def text(self) -> str:
        """What was kept; says first how much was not. Bytes that are no UTF-8 show as U+FFFD."""
        kept = b"".join(self._pieces)[-self._keep :]
        text = kept.decode("utf-8", errors="replace")
        left_out = self._seen - len(kept)
        return f"[{left_out} bytes left out]\n{text}" if left_out else text


def named(argv: Sequence[str], name: str) -> tuple[str, ...]:
    """The argument list that journal and messages show: the command's own, or the name it was given instead."""
    return (name,) if name else tuple(argv)


def judged(ran: Ran, where: str, accept: Sequence[int]) -> Ran:
    """The command, if its status is one of `accept`; else raises CommandFailed with the last line that it said."""
    if ran.status in accept:
        return ran
    last = last_line(ran.stderr) or last_line(ran.stdout) or "and said nothing"
    raise CommandFailed(f"{ran.argv[0]} on {where} ended with status {ran.status}: {last}", ran=ran)


def check_in_time(patience: Patience, name: str, began: float) -> None:
    """Raises Cancelled when nobody wants the command any more, TimedOut at the deadline. `began`: monotonic seconds."""
    patience.check()
    if patience.remaining <= 0:
        raise TimedOut(f"{name} was not done after {time.monotonic() - began:.0f} s and was killed")


def last_line(text: str) -> str:
    """The last line that is not blank, shortened to what fits a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
