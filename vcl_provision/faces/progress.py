"""How far a reservation is, as lines: each step with its seconds, and of the boot how much is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from vcl_provision.model.steps import SENTENCES, Step

RESTS = {Step.RESERVED, Step.CONNECTABLE, Step.CONNECTED}
"""Steps after which nothing is done until the user, or the clock, does something: they take no time of ours."""
ALMOST = 0.97
"""A boot that takes longer than expected is almost over, never over."""


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A line of the load log: a step, when it began, what was said of it."""

    step: str
    at: datetime
    info: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A step as it is shown. `share` of it that is over, 0 to 1, if that can be told; `expected` seconds likewise.

    One that `rests` is neither over nor worked on: the user's turn, or the clock's.
    """

    said: str
    seconds: float
    running: bool
    until: datetime
    rests: bool = False
    share: float | None = None
    expected: float | None = None


def lines(
    steps: Sequence[Passed], *, now: datetime, since: datetime, resting: bool, boot_seconds: float | None
) -> list[Line]:
    """The steps in order. The last one runs still, unless the reservation rests (it waits for its user, or is over).

    `since` is when the request came into its present state, which ended what was done in the one before;
    `boot_seconds` how long this image's guest took to boot before.
    """
    if not steps:
        return []
    ended = [_line(step, after.at, running=False) for step, after in pairwise(steps)]
    last = steps[-1]
    if not resting and last.at >= since:
        expected = boot_seconds if last.step == Step.BOOTING else None
        return [*ended, _line(last, now, running=True, expected=expected)]
    if last.step not in RESTS:
        return [*ended, _line(last, max(since, last.at), running=False)]
    return [*ended, replace(_line(last, last.at, running=False), rests=last.at >= since)]


def _line(step: Passed, until: datetime, *, running: bool, expected: float | None = None) -> Line:
    seconds = max(0.0, (until - step.at).total_seconds())
    share = min(ALMOST, seconds / expected) if expected else None
    said = sentence(step)
    return Line(said=said, seconds=seconds, running=running, until=until, share=share, expected=expected)


def sentence(step: Passed) -> str:
    """What a step is called, with what was said of it: `copying the image to the host: 40 %`."""
    said = SENTENCES[Step(step.step)] if step.step in set(Step) else step.step
    return f"{said}: {step.info}" if step.info else said
