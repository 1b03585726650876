"""Calls that are killed: after so long, or at a step that they record."""

from __future__ import annotations

from dataclasses import asdict, replace

from vcl_provision.drivers.conformance.bench import Bench
from vcl_provision.drivers.conformance.guests import GuestBench
from vcl_provision.drivers.conformance.item import Broken
from vcl_provision.drivers.conformance.processes import Call, Ended


def killed_after(bench: Bench, call: str, seconds: float) -> bool:
    """Whether the child was still in the call when it was killed."""
    with bench.children.calling(_call(bench, call)) as child:
        return child.ended(seconds) is None


def seconds_of(bench: Bench, call: str) -> float:
    """How long the call takes in a process of its own, when nobody kills it. Raises Broken if it fails."""
    bench.need_image()
    return _ended(bench, _call(bench, call)).seconds


def killed_at(bench: Bench, call: str, step: int) -> bool:
    """Whether there was such a step: the child kills itself at it. Raises Broken if the call failed before."""
    bench.need_image()
    return _ended(bench, _call(bench, call, kill_at=step)).status < 0


def killed_inside(bench: GuestBench, call: str, step: int) -> bool:
    """As killed_at, for a call of an OS module: a step is each effect and each command inside, before and after it."""
    wanted = replace(
        _call(bench.machine, call, kill_at=step),
        guest=str(bench.subject.file),
        guest_options=bench.options_table,
        host_key=bench.computer.host_key,
    )
    return _ended(bench.machine, wanted).status < 0


def _call(bench: Bench, name: str, *, kill_at: int = -1) -> Call:
    folder, file = str(bench.folder), str(bench.subject.file)
    return Call(file=file, against=asdict(bench.against), folder=folder, name=name, kill_at=kill_at)


def _ended(bench: Bench, call: Call) -> Ended:
    with bench.children.calling(call) as child:
        ended = child.ended(bench.against.boot)
    if ended is None:
        raise Broken(f"in a process of its own the call did not end in {bench.against.boot:.0f} s")
    if ended.status > 0:
        raise Broken(f"in a process of its own the call failed: {ended.wrong}")
    return ended
