"""Calls that are cut off: killed in the middle, cancelled, out of time; and what belongs to somebody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.conformance.bench import Bench, outcome
from vcl_provision.drivers.conformance.item import NotApplicable, insist
from vcl_provision.drivers.conformance.kills import killed_after, killed_at, seconds_of
from vcl_provision.drivers.conformance.ports import SilentGuests
from vcl_provision.model.faults import Cancelled, Refused, TimedOut
from vcl_provision.model.lab import Computer
from vcl_provision.model.states import NodeStatus, Power

MOMENTS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Seconds into a fetch at which it is killed: how long it takes is not known before."""
PARTS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Parts of the time that a call takes after which it is killed."""
MOST_STEPS = 40


def a_killed_fetch_leaves_no_image_that_is_believed(bench: Bench) -> None:
    """retrieve_image, killed at some moment: the image is not there, or whole; asked again it is fetched."""
    if bench.make().does_image_exist(bench.revision, bench.host):
        raise NotApplicable("the image is on the host already")
    for seconds in MOMENTS:
        cut_off = killed_after(bench, "retrieve_image", seconds)
        if bench.make().does_image_exist(bench.revision, bench.host):
            if cut_off:
                _boot_to_prove_it_whole(bench)
            return
    bench.make(waiting=True).retrieve_image(bench.revision, bench.host)
    insist(bench.make().does_image_exist(bench.revision, bench.host), "asked again, it did not fetch the image")


def a_killed_load_is_undone_or_done_again(bench: Bench) -> None:
    """A load, killed at each step that it records: its undo clears the slot, or a second load succeeds."""
    with bench.clean():
        steps = 0
        while steps < MOST_STEPS and killed_at(bench, "load", steps):
            _carry_on(bench, f"a load killed at step {steps}", again=False)
            steps += 1
        for step in {steps // 2, steps - 1}:
            killed_at(bench, "load", step)
            _carry_on(bench, f"a load killed at step {step}", again=True)


def a_load_killed_at_any_moment_is_undone(bench: Bench) -> None:
    """A load, killed at moments that it knows nothing of: its undo clears the slot, or a second load succeeds."""
    with bench.clean():
        whole = seconds_of(bench, "load")
        bench.make().control_VM(bench.computer, Power.REMOVE)
        for number, part in enumerate(PARTS):
            killed_after(bench, "load", part * whole)
            _carry_on(bench, f"a load killed after {part * whole:.3f} s", again=bool(number % 2))


def a_killed_removal_is_done_again(bench: Bench) -> None:
    """control_VM(remove), killed at some moment: asked again it clears the slot."""
    with bench.clean():
        bench.load()
        whole = seconds_of(bench, "remove")
        for part in PARTS[::2]:
            bench.load()
            killed_after(bench, "remove", part * whole)
            bench.make().control_VM(bench.computer, Power.REMOVE)
            bench.insist_empty("a removal, killed and asked for again")


def a_cancelled_load_stops_and_is_undone(bench: Bench) -> None:
    """Cancelled while it waits for the guest, a load raises Cancelled, and its undo clears the slot."""
    with bench.clean():
        patience = EndingPatience(bench.against.call)
        raised = _waiting_load(bench, patience, patience.cancel)
        insist(isinstance(raised, Cancelled), f"it raised {raised!r}", "let Cancelled pass; never catch Exception")
        bench.undo()
        bench.insist_empty("a cancelled load and its undo")


def a_load_ends_with_its_patience(bench: Bench) -> None:
    """With a guest that never answers, a load raises TimedOut at its deadline, and its undo clears the slot."""
    with bench.clean():
        patience = EndingPatience(bench.against.call)
        raised = _waiting_load(bench, patience, patience.end)
        insist(isinstance(raised, TimedOut), f"it raised {raised!r}", "end the load with self.task.reach(...)")
        bench.undo()
        bench.insist_empty("a load that ran out of time and its undo")


def a_machine_that_dies_while_it_boots_ends_the_load(bench: Bench) -> None:
    """When the machine stops while the load waits for its guest, the load raises Refused at once."""
    with bench.clean():

        def stop() -> None:
            bench.make().control_VM(bench.computer, Power.OFF)

        raised = _waiting_load(bench, Patience(bench.against.call), stop)
        insist(
            isinstance(raised, Refused),
            f"it raised {raised!r}",
            "give self.task.reach(computer, alive=...) a question that asks the hypervisor",
        )


def what_belongs_to_another_lab_is_not_touched(bench: Bench) -> None:
    """What carries another owner tag survives control_VM, load and undo in its slot; a load says what is in the way."""
    if not bench.sees:
        raise NotApplicable("the module inherits no Inventory, so nobody can see whether it is still there")
    with bench.clean():
        machine = bench.load(foreign=True)
        theirs = bench.lying()
        insist(theirs, "a machine of another lab is not listed", "list all that is there, whoever's it is")
        state = _status_for_its_owner(bench, machine)
        for action in (Power.RESET, Power.OFF, Power.REMOVE):
            outcome(lambda action=action: bench.make().control_VM(bench.computer, action))
            insist(bench.lying() == theirs, f"control_VM({action}) removed it", "compare the owner tag with task.owner")
            insist(
                state is _status_for_its_owner(bench, machine), f"control_VM({action}) changed it", "compare the tag"
            )
        failed = outcome(bench.load)
        insist(bench.lying() == theirs, "a load removed it", "compare the owner tag with task.owner")
        insist(failed, "a load into its slot succeeded", "raise Refused: the slot is somebody else's")
        bench.undo()
        insist(bench.lying() == theirs, "the undo of that load removed it", "compare the owner tag in undo_* too")
        again = outcome(lambda: bench.make(foreign=True).control_VM(bench.computer, Power.REMOVE))
        insist(again is None and not bench.lying(), f"its owner cannot remove it any more: {again!r}")


def _status_for_its_owner(bench: Bench, machine: Computer) -> NodeStatus:
    return bench.make(machine, foreign=True).node_status(machine, bench.revision)


def _boot_to_prove_it_whole(bench: Bench) -> None:
    with bench.clean():
        failed = outcome(lambda: bench.load(waiting=True))
        insist(
            failed is None,
            f"killed in the middle, it left an image that is said to exist and does not load: {failed!r}",
            "write beside, verify, then rename; does_image_exist looks at the final name",
        )


def nothing_is_left_behind(bench: Bench) -> None:
    """After all of this, the host holds what it held before, and nothing more."""
    bench.empty()
    before = {(found.name, found.owner, found.what) for found in bench.at_first}
    left = [found for found in bench.inventory() if (found.name, found.owner, found.what) not in before]
    ours = [found.what for found in left if found.owner in bench.owners or found.name in bench.names]
    insist(not ours, f"there is still {', '.join(ours)}", "record an undo before each thing that is made")


def _waiting_load(bench: Bench, patience: Patience, once_waiting: Callable[[], None]) -> BaseException | None:
    """What a load raised whose guest never answers; `once_waiting` is called when it is first waited for."""
    bench.need_image()
    asked = threading.Event()
    raised: list[BaseException] = []
    firstboot = bench.firstboot(bench.computer)
    made = bench.make(guests=SilentGuests(asked.set), patience=patience)

    def load() -> None:
        try:
            made.load(bench.computer, bench.revision, firstboot)
        except Exception as error:  # noqa: BLE001 - what it raises is the question
            raised.append(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    Patience(bench.against.call).until(lambda: asked.is_set() or not thread.is_alive(), "the load to ask for the guest")
    insist(not raised, f"before it waited for the guest, the load raised {raised!r}")
    insist(asked.is_set(), "the load never asked for the guest", "end it with self.task.reach(computer, alive=...)")
    once_waiting()
    began = time.monotonic()
    thread.join(bench.against.call)
    insist(
        not thread.is_alive(),
        f"the load went on for {time.monotonic() - began:.0f} s",
        "wait with self.task.wait_until or self.task.patience, and end the load with self.task.reach",
    )
    return raised[0] if raised else None


def _carry_on(bench: Bench, after: str, *, again: bool) -> None:
    """What the daemon does after a crash: plays the undo, or asks for the load again; then the slot is to be clear."""
    if again:
        bench.load()
        if bench.sees:
            insist(bench.lying(), f"after {after} and another load nothing is there")
        bench.make().control_VM(bench.computer, Power.REMOVE)
        bench.insist_empty(f"{after}, another load and control_VM(remove)")
    bench.undo()
    bench.insist_empty(f"{after} and its undo")
    bench.effects(bench.computer).forget()


class EndingPatience(Patience):
    """A patience whose deadline can be made to be now."""

    _ended = False

    @property
    def remaining(self) -> float:
        return 0.0 if self._ended else super().remaining

    def end(self) -> None:
        self._ended = True
