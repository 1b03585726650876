"""The process that runs calls to be killed: it imports everything once, and forks for each call."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vcl_provision.drivers.conformance.bench import Bench
from vcl_provision.drivers.conformance.guests import GuestBench
from vcl_provision.drivers.conformance.ports import EffectFile, Steps
from vcl_provision.drivers.conformance.processes import CALLING, Call
from vcl_provision.drivers.conformance.subject import subject
from vcl_provision.drivers.conformance.target import Against
from vcl_provision.model.options import read_table
from vcl_provision.model.states import Power

Tell = Callable[[str], None]


def serve() -> None:
    """Forks a child for each line on standard input, and tells of it on standard output; ends with its parent."""
    output = os.dup(1)  # what a module prints goes elsewhere
    os.dup2(2, 1)

    def tell(line: str) -> None:
        os.write(output, f"{line}\n".encode())

    for line in sys.stdin:
        child = os.fork()
        if not child:
            _be_the_child(line, tell)
        _, status = os.waitpid(child, 0)
        tell(f"exit {os.waitstatus_to_exitcode(status)}")


def _be_the_child(line: str, tell: Tell) -> None:
    tell(f"pid {os.getpid()}")
    try:
        run(Call(**json.loads(line)), tell)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the kit tells it; and a child never returns
        tell("failed " + f"{type(error).__name__}: {error}".replace("\n", " ")[:500])
        os._exit(1)
    os._exit(0)


def run(call: Call, tell: Tell) -> None:
    """Runs the call, telling when it begins and how many seconds it took."""
    against = read_table(Against, call.against, where="the kit's own")
    bench = Bench(subject=subject(Path(call.file)), against=against, folder=Path(call.folder))
    step = Countdown(call.kill_at)
    work = _guest_call(call, bench, step) if call.guest else _provisioner_call(call, bench, step)
    tell(CALLING)
    began = time.monotonic()
    work()
    step()
    tell(f"took {time.monotonic() - began}")
    bench.close()


class Countdown:
    """Counts the steps that a module records, and kills at one of them."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._seen = 0

    def __call__(self, *_: object) -> None:
        if self._seen == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._seen += 1


def _provisioner_call(call: Call, bench: Bench, step: Countdown) -> Callable[[], None]:
    effects = EffectFile(Path(call.folder) / f"{bench.computer.name}.ours.effects", before=step)
    firstboot = bench.firstboot(bench.computer)
    computer = replace(bench.computer, host_key=firstboot.host_key)
    made = bench.make(computer, effects=effects, steps=Steps(step))
    return {
        "load": lambda: made.load(computer, bench.revision, firstboot),
        "retrieve_image": lambda: made.retrieve_image(bench.revision, bench.host),
        "remove": lambda: made.control_VM(computer, Power.REMOVE),
    }[call.name]


def _guest_call(call: Call, machine: Bench, step: Countdown) -> Callable[[], None]:
    bench = GuestBench(machine=machine, subject=subject(Path(call.guest)), options_table=dict(call.guest_options))
    machine.running = replace(machine.computer, host_key=call.host_key)
    guest = bench.make(guests=bench.hooked_guests(step), effects=EffectFile(bench.effects.file, before=step))
    return {
        "add_user": lambda: guest.add_user(bench.computer, bench.revision, bench.user),
        "post_load": lambda: guest.post_load(bench.computer, bench.revision),
    }[call.name]


if __name__ == "__main__":
    serve()
