"""What goes wrong, by script: which call, on which machine, the how manieth time, how; and whether it came to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vcl_provision.drivers import CommandFailed, HostUnreachable, Patience, Ran, Refused, TimedOut, Transient

from .world import World


class Kind(StrEnum):
    """How a call goes wrong."""

    FAIL = "fail"
    """It raises `error`: transient, unreachable, refused, failed, timed_out, or bug (no class of ours)."""
    HANG = "hang"
    """It answers nothing, until the patience ends or is cancelled."""
    LIE = "lie"
    """It says that all is well and has done nothing; a question is answered wrongly."""
    HALF = "half"
    """It does the first half of its work, then raises `error`; inside a guest: all of it, then the connection drops."""
    SLOW = "slow"
    """It takes `seconds` longer."""
    KILL = "kill"
    """The calling process is killed, as `kill -9` does."""


class Twist(StrEnum):
    """What is left to the call itself to do wrongly."""

    NONE = ""
    LIE = "lie"
    HALF = "half"


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A scripted fault that met a call."""

    id: int
    call: str
    kind: Kind
    error: str
    seconds: float


ERRORS = ("transient", "unreachable", "refused", "failed", "timed_out", "bug")

CALLS = (
    "*", "node_status", "does_image_exist", "retrieve_image", "load", "boot", "capture", "control_VM", "get_image_size",
    "disks", "inventory", "metrics", "guest", "guest.connect",
)  # fmt: skip
"""What can be named in a script; `guest.<verb>` too. `load` is met before anything is done, `boot` when it starts.

`*` is every call that work on a machine makes; not `disks`, which `vcld` asks whenever it likes."""


def script(
    world: World,
    call: str,
    kind: Kind,
    *,
    error: str = "failed",
    seconds: float = 0.0,
    host: str = "*",
    computer: str = "*",
    nth: int = 1,
    times: int = 1,
) -> int:
    """Adds a fault and returns its number: from the `nth` matching call on, `times` times (0: for ever).

    Raises ValueError for a call or an error that there is not.
    """
    if call not in CALLS and not call.startswith("guest."):
        raise ValueError(f"no call {call!r}: there is {', '.join(CALLS)}")
    if error not in ERRORS:
        raise ValueError(f"no error {error!r}: there is {', '.join(ERRORS)}")
    with world.change() as change:
        change.do(
            "INSERT INTO fault (call, kind, error, seconds, host, computer, skip, times)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            call, kind.value, error, seconds, host, computer, nth - 1, times,
        )  # fmt: skip
        row = change.first("SELECT max(id) FROM fault")
    return int(row[0]) if row else 0


def read_script(world: World, line: str) -> int:
    """Adds a fault from a line such as `fail load computer=sim1 nth=2 times=3 error=transient`. Raises ValueError."""
    words = line.split()
    named = dict(word.split("=", 1) for word in words[2:] if "=" in word)
    if len(words) < 2 or len(named) != len(words) - 2:
        raise ValueError(f"write a fault like 'fail load computer=sim1 nth=2', not {line!r}")
    known: dict[str, Callable[[str], Any]] = {
        "error": str, "seconds": float, "host": str, "computer": str, "nth": int, "times": int,
    }  # fmt: skip
    wrong = named.keys() - known.keys()
    if wrong:
        raise ValueError(f"a fault has no {', '.join(sorted(wrong))}: there is {', '.join(known)}")
    return script(world, words[1], Kind(words[0]), **{key: known[key](value) for key, value in named.items()})


def fired(world: World, number: int) -> int:
    """How often this fault struck."""
    row = world.first("SELECT fired FROM fault WHERE id = ?", number)
    return int(row[0]) if row else 0


def heal(world: World) -> None:
    """Takes all scripted faults away."""
    with world.change() as change:
        change.do("DELETE FROM fault")


_MATCHING = (
    "SELECT id, kind, error, seconds, skip FROM fault WHERE (times = 0 OR fired < times) AND call IN (?, ?, ?)"
    " AND host IN (?, '*') AND computer IN (?, '*') ORDER BY id"
)


def strike(world: World, call: str, *, host: str, computer: str) -> Strike | None:
    """The fault that this call meets, counted as met; None, at the price of one question, if there is none."""
    values = (call, call.partition(".")[0], call if call == "disks" else "*", host, computer)
    if not world.ask(_MATCHING, *values):
        return None
    with world.change() as change:
        for number, kind, error, seconds, skip in change.ask(_MATCHING, *values):
            if skip:
                change.do("UPDATE fault SET skip = skip - 1 WHERE id = ?", number)
                continue
            change.do("UPDATE fault SET fired = fired + 1 WHERE id = ?", number)
            return Strike(id=number, call=call, kind=Kind(kind), error=error, seconds=seconds)
    return None


def suffer(met: Strike, patience: Patience) -> Twist:
    """Does what the fault says; a lie or a half is the call's own to do. Raises what it is scripted to raise."""
    match met.kind:
        case Kind.FAIL:
            raise failure(met)
        case Kind.HANG:
            wait(patience, float("inf"), met.call)
        case Kind.SLOW:
            wait(patience, met.seconds, met.call)
        case Kind.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Kind.LIE:
            return Twist.LIE
        case Kind.HALF:
            return Twist.HALF
    return Twist.NONE


def failure(met: Strike) -> Exception:
    """The exception that a fault is scripted to raise."""
    said = f"scripted fault {met.id}: {met.call} {met.error}"
    match met.error:
        case "transient":
            return Transient(said)
        case "unreachable":
            return HostUnreachable(said)
        case "refused":
            return Refused(said)
        case "timed_out":
            return TimedOut(said)
        case "bug":
            return RuntimeError(said)
        case _:
            return CommandFailed(said, ran=Ran(argv=["sim", met.call], status=1, stderr=said))


def wait(patience: Patience, seconds: float, what: str) -> None:
    """Lets so much time pass. Raises TimedOut if the patience ends before, Cancelled."""
    patience.sleep(seconds)
    if patience.remaining <= 0:
        raise TimedOut(f"sim: {what} took longer than there was time")
