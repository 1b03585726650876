"""Loads, power and what a module can do beyond them, on one machine that is booted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from vcl_provision.drivers.conformance.bench import Bench, outcome, owner_of
from vcl_provision.drivers.conformance.item import NotApplicable, insist
from vcl_provision.drivers.conformance.ports import EffectFile, Steps
from vcl_provision.drivers.provisioner import Addresses, Disks, GuestExec, Inventory, Metrics, Snapshots
from vcl_provision.model.faults import CommandFailed, ProvisionError, Refused
from vcl_provision.model.states import NodeStatus, Power
from vcl_provision.model.steps import Step

T = TypeVar("T")


def what_is_not_there_is_no_error(bench: Bench) -> None:
    """Removing and switching off what is not there succeeds, again and again; such a machine needs a RELOAD."""
    bench.empty()
    for _ in range(2):
        for action in (Power.REMOVE, Power.OFF):
            failed = outcome(lambda action=action: bench.make().control_VM(bench.computer, action))
            insist(failed is None, f"control_VM({action}) of a missing machine raised {failed!r}", "let it succeed")
    status = bench.make().node_status(bench.computer, bench.revision)
    insist(status is NodeStatus.RELOAD, f"node_status of a missing machine is {status}", "when in doubt say RELOAD")


def an_image_that_is_nowhere_is_refused(bench: Bench) -> None:
    """Of an image that no repository holds, does_image_exist is false and retrieve_image raises a fault of ours."""
    missing = bench.against.missing_revision
    insist(not bench.make().does_image_exist(missing, bench.host), "does_image_exist is true for what is nowhere")
    failed = outcome(lambda: bench.make().retrieve_image(missing, bench.host))
    insist(failed, "retrieve_image of what is nowhere raised nothing", "raise Refused naming the image and the place")
    insist(not bench.make().does_image_exist(missing, bench.host), "after that, does_image_exist is true")


def an_image_is_fetched_once_for_all_who_ask(bench: Bench) -> None:
    """Four that ask at once for an image all get it; asked again, nothing is done; its size is known."""
    failed = _failed(_four_at_once(lambda: bench.make(waiting=True).retrieve_image(bench.revision, bench.host)))
    insist(not failed, f"of four at once {len(failed)} failed: {failed[:1]}", "hold self.task.locks while you fetch")
    insist(bench.make().does_image_exist(bench.revision, bench.host), "after retrieve_image, does_image_exist is false")
    bench.make().retrieve_image(bench.revision, bench.host)
    size = bench.make().get_image_size(bench.revision, bench.host)
    insist(size > 0, f"get_image_size says {size}", "give its bytes, as it lies in the repository")


def a_load_that_cannot_be_done_leaves_nothing(bench: Bench) -> None:
    """Loading an image that is nowhere raises a fault of ours, and what it had begun can be undone."""
    with bench.clean():
        firstboot = bench.firstboot(bench.computer)
        made = bench.make()
        failed = outcome(lambda: made.load(bench.computer, bench.against.missing_revision, firstboot))
        insist(failed, "the load of an image that is nowhere succeeded", "raise Refused or Transient")
        bench.undo()
        bench.insist_empty("a failed load and its undo")


def nothing_is_loaded_where_a_disk_is_full(bench: Bench) -> None:
    """Disks: what is free is told; where the VM profile keeps all of it free, a load is refused and leaves nothing."""
    made: Disks = bench.capable(Disks)
    if bench.host is None:
        raise NotApplicable("the machines are on no VM host")
    found = made.disks(bench.host)
    for disk in (found.masters, found.machines):
        insist(disk.path and 0 <= disk.free <= disk.total, f"a disk is {disk}", "name its folder; count in bytes")
    profile = replace(bench.host.profile, keep_free_mb=found.machines.total >> 20)
    computer = replace(bench.computer, host=replace(bench.host, profile=profile))
    bench.need_image()
    with bench.clean():
        failed = outcome(lambda: bench.make(computer).load(computer, bench.revision, bench.firstboot(computer)))
        hint = "disks(host).machines.require(A_MACHINE, host.profile.keep_free_mb) before you make anything"
        insist(isinstance(failed, Refused), f"a load on a full disk gave {failed!r}", hint)
        bench.undo()
        bench.insist_empty("a load that was refused, and its undo")


def a_load_ends_with_a_machine_that_lets_us_in(bench: Bench) -> None:
    """A load returns when the guest is up and answers with the host key that it was given; it tells of its steps."""
    bench.empty()
    bench.need_image()
    bench.tried = True
    early: list[str] = []
    firstboot = bench.firstboot(bench.computer)
    computer = replace(bench.computer, host_key=firstboot.host_key)

    def before(written: int) -> None:
        if not written and bench.sees:
            early.extend(found.what for found in bench.lying())

    steps = Steps()
    effects = EffectFile(bench.folder / f"{computer.name}.ours.effects", before=before)
    made = bench.make(computer, waiting=True, effects=effects, steps=steps)
    made.load(computer, bench.revision, firstboot)
    ran = made.task.guests.channel(computer, patience=made.task.patience).run(["true"], patience=made.task.patience)
    insist(ran.status == 0, "a command inside failed")
    bench.running = computer
    insist(
        not early, f"{', '.join(early)} was there before its undo was recorded", "call task.record(...) before you make"
    )
    insist(effects.written(), "the load recorded no undo", "call task.record(...) before you make anything")
    insist(Step.BOOTING in steps.said, "nobody was told that the guest boots", "call task.say(Step.BOOTING)")


def it_knows_what_a_machine_holds(bench: Bench) -> None:
    """node_status is READY or POST_LOAD for what was loaded, and RELOAD for all else; asking changes nothing."""
    computer = bench.running_machine()
    right = bench.make(computer, waiting=True).node_status(computer, bench.revision)
    insist(right is not NodeStatus.RELOAD, "RELOAD for the image that was loaded", "ask the hypervisor what it holds")
    insist(right is NodeStatus.POST_LOAD, f"{right} though no post-load was done", "READY only if computer.prepared")
    other = replace(bench.revision, id=98, revision=98, name=f"{bench.revision.name}8")
    wrong = {
        "another revision": (computer, other),
        "another host key": (replace(computer, host_key=bench.firstboot(computer).host_key), bench.revision),
        "a user may have been in": (replace(computer, tainted=True, prepared=True), bench.revision),
    }
    for case, (asked, revision) in wrong.items():
        status = bench.make(asked, waiting=True).node_status(asked, revision)
        insist(status is NodeStatus.RELOAD, f"{status} though {case}", "when in doubt say RELOAD")
    again = bench.make(computer, waiting=True).node_status(computer, bench.revision)
    insist(again is right, f"asked again it says {again}, first it said {right}", "a question must change nothing")


def many_may_ask_at_once(bench: Bench) -> None:
    """Four threads that ask for the state of one machine get the same answer."""
    computer = bench.running_machine()
    asked = _four_at_once(lambda: bench.make(computer, waiting=True).node_status(computer, bench.revision))
    answers = {each.result() for each in asked}
    insist(len(answers) == 1, f"four at once were told {answers}", "keep nothing of one call for another")


def it_lists_what_is_there(bench: Bench) -> None:
    """Inventory: the loaded machine is listed, with its slot's name and our owner tag."""
    bench.capable(Inventory)
    computer = bench.running_machine()
    owners = {found.owner for found in bench.lying(computer)}
    insist(owners, "the loaded machine is not listed", "list all that is there, whoever's it is")
    insist(owners == {owner_of(computer)}, f"its owner tag is {owners}", "put task.owner on all that you make")


def it_measures(bench: Bench) -> None:
    """Metrics: memory is more than nothing, CPU seconds never shrink."""
    computer = bench.running_machine()
    made: Metrics = bench.capable(Metrics, computer)
    first, second = made.metrics(computer), made.metrics(computer)
    insist(first.memory_bytes > 0, f"memory is {first.memory_bytes}", "in bytes, of a machine that runs")
    insist(0 <= first.cpu_seconds <= second.cpu_seconds, "CPU seconds shrink", "count since the machine started")


def it_knows_the_addresses(bench: Bench) -> None:
    """Addresses: the machine's private address is among those that it has."""
    computer = bench.running_machine()
    made: Addresses = bench.capable(Addresses, computer)
    known = list(made.addresses(computer))
    insist(computer.private_address in known, f"it knows {known}, not {computer.private_address}")


def it_runs_commands_inside(bench: Bench) -> None:
    """GuestExec: a command runs inside without a network; one that is not there raises CommandFailed."""
    computer = bench.running_machine()
    made: GuestExec = bench.capable(GuestExec, computer)
    patience = bench.make().task.patience
    insist(made.guest_channel(computer).run(["true"], patience=patience).status == 0, "true did not succeed")
    failed = outcome(lambda: made.guest_channel(computer).run(["no-such-command"], patience=patience))
    insist(isinstance(failed, CommandFailed), f"a command that is not there gave {failed!r}", "raise CommandFailed")


def it_takes_snapshots(bench: Bench) -> None:
    """Snapshots: one can be taken, is listed, can be gone back to and removed, each of these twice."""
    computer = bench.running_machine()
    made: Snapshots = bench.capable(Snapshots, computer)
    for _ in range(2):
        made.snapshot(computer, "vcl-check")
        insist("vcl-check" in made.snapshots(computer), "a snapshot that was taken is not listed")
        made.revert(computer, "vcl-check")
        made.delete_snapshot(computer, "vcl-check")
        insist("vcl-check" not in made.snapshots(computer), "a snapshot that was removed is listed")


def a_capture_becomes_an_image_and_harms_nothing(bench: Bench) -> None:
    """A capture of a machine that is off gives an image that exists, and leaves the machine in its slot."""
    name = bench.against.image.capture_as
    if not name:
        raise NotApplicable("an image would stay behind: name it as capture_as under [image] to try it")
    captured = bench.against.captured_revision
    if bench.make().does_image_exist(captured, bench.host):
        raise NotApplicable(f"there is an image {name} already: remove it, or name another")
    computer = bench.running_machine()
    bench.make(computer).control_VM(computer, Power.OFF)
    before = bench.inventory() if bench.sees else []
    try:
        bench.make(computer, waiting=True).capture(computer, captured)
    except Refused as refused:
        raise NotApplicable(f"the module does not capture: {refused}") from None
    insist(bench.make().get_image_size(captured, bench.host) > 0, "the captured image has no size")
    bench.make(waiting=True).retrieve_image(captured, bench.host)
    insist(bench.make().does_image_exist(captured, bench.host), "after a capture, does_image_exist is false")
    after = bench.inventory() if bench.sees else []
    insist(before == after, f"before it there was {before}, after it {after}", "leave the machine as it was")


def power_is_changed_once_however_often_it_is_asked_for(bench: Bench) -> None:
    """suspend, resume, reset, off and on each succeed twice, and no machine is lost by them."""
    computer = bench.running_machine()
    for action in (Power.SUSPEND, Power.RESUME, Power.RESET, Power.OFF, Power.ON):
        for _ in range(2):
            failed = outcome(lambda action=action: bench.make(computer).control_VM(computer, action))
            insist(failed is None, f"control_VM({action}) raised {failed!r}", "ask first; done is success")
        if action is Power.OFF:
            status = bench.make(computer).node_status(computer, bench.revision)
            insist(status is NodeStatus.RELOAD, f"node_status of a machine that is off is {status}")
    if bench.sees:
        insist(bench.lying(computer), "the machine is gone")


def removing_leaves_nothing_and_may_be_repeated(bench: Bench) -> None:
    """Four that remove one machine at once all succeed, and nothing of it is left; its undo then succeeds, twice."""
    computer = bench.running_machine()
    bench.running = None
    failed = _failed(_four_at_once(lambda: bench.make(computer).control_VM(computer, Power.REMOVE)))
    insist(not failed, f"of four at once {len(failed)} failed: {failed[:1]!r}", "what is gone by now was to be removed")
    bench.insist_empty("control_VM(remove)")
    for _ in range(2):
        bench.undo(computer)
    status = bench.make().node_status(bench.computer, bench.revision)
    insist(status is NodeStatus.RELOAD, f"node_status of the removed machine is {status}")


def two_loads_at_once_do_not_disturb_each_other(bench: Bench) -> None:
    """Two computers of one host are loaded at the same time."""
    if len(bench.computers) < 2:
        raise NotApplicable("only one [[computer]] is described")
    with bench.clean(), ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(bench.load, computer) for computer in bench.computers[:2]]
        failed = _failed(loads)
        insist(not failed, f"{failed[:1]!r}", "keep nothing of one computer where another's load finds it")
        listed = {found.name for found in bench.inventory()} if bench.sees else bench.names
        insist(bench.names <= listed, f"only {', '.join(listed)} is listed")


def two_loads_of_one_slot_leave_one_machine(bench: Bench) -> None:
    """A load that comes while another one of its slot is under way: neither breaks, one removal clears the slot."""
    with bench.clean():
        with ThreadPoolExecutor(2) as pool:
            loads = [pool.submit(bench.load) for _ in range(2)]
        for each in loads:
            error = each.exception()
            insist(error is None or isinstance(error, ProvisionError), f"{error!r}", "raise Transient if overtaken")
        bench.make().control_VM(bench.computer, Power.REMOVE)
        bench.insist_empty("both loads and one control_VM(remove)")


def an_undo_may_be_played_twice(bench: Bench) -> None:
    """The recorded undo removes all that a load made, and succeeds again when nothing is left."""
    with bench.clean():
        bench.load()
        for turn in ("one", "two"):
            bench.undo()
            bench.insist_empty(f"undo number {turn}")


def a_new_load_begins_with_an_empty_slot(bench: Bench) -> None:
    """A load finds what an earlier one left in its slot and replaces it."""
    with bench.clean():
        bench.load()
        before = bench.lying() if bench.sees else []
        bench.load()
        after = bench.lying() if bench.sees else []
        insist(len(before) == len(after), f"first there was {before}, then {after}", "begin with control_VM(remove)")


def _four_at_once(call: Callable[[], T]) -> list[Future[T]]:
    with ThreadPoolExecutor(4) as pool:
        return [pool.submit(call) for _ in range(4)]


def _failed(asked: Sequence[Future[T]]) -> list[BaseException]:
    return [error for each in asked if (error := each.exception())]
