"""Runs the contract against a module."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.conformance import inside, interrupted, machines
from vcl_provision.drivers.conformance.bench import Bench
from vcl_provision.drivers.conformance.guests import GuestBench
from vcl_provision.drivers.conformance.item import Item, name_of, run_items
from vcl_provision.drivers.conformance.report import Checked, Report, Verdict
from vcl_provision.drivers.conformance.static import STATIC
from vcl_provision.drivers.conformance.subject import Subject, subject
from vcl_provision.drivers.conformance.target import Against, against_lab, read_against
from vcl_provision.drivers.finding import find
from vcl_provision.drivers.provisioner import LocalHost, LocalLab
from vcl_provision.images.builder import build_image, load_profile
from vcl_provision.images.repository import open_repository
from vcl_provision.model.faults import BrokenModule

T = TypeVar("T")

BUILD = 1800.0
"""Seconds in which an image can be built anywhere."""

Say = Callable[[Checked], None]


def _silent(_: Checked) -> None:
    """Nobody listens."""


LIVE: Sequence[Item[Bench]] = (
    machines.what_is_not_there_is_no_error,
    machines.an_image_that_is_nowhere_is_refused,
    interrupted.a_killed_fetch_leaves_no_image_that_is_believed,
    machines.an_image_is_fetched_once_for_all_who_ask,
    machines.a_load_that_cannot_be_done_leaves_nothing,
    machines.nothing_is_loaded_where_a_disk_is_full,
    machines.a_load_ends_with_a_machine_that_lets_us_in,
    machines.it_knows_what_a_machine_holds,
    machines.many_may_ask_at_once,
    machines.it_lists_what_is_there,
    machines.it_measures,
    machines.it_knows_the_addresses,
    machines.it_runs_commands_inside,
    machines.it_takes_snapshots,
    machines.power_is_changed_once_however_often_it_is_asked_for,
    machines.a_capture_becomes_an_image_and_harms_nothing,
    machines.removing_leaves_nothing_and_may_be_repeated,
    machines.an_undo_may_be_played_twice,
    machines.a_new_load_begins_with_an_empty_slot,
    machines.two_loads_at_once_do_not_disturb_each_other,
    machines.two_loads_of_one_slot_leave_one_machine,
    interrupted.a_killed_load_is_undone_or_done_again,
    interrupted.a_load_killed_at_any_moment_is_undone,
    interrupted.a_killed_removal_is_done_again,
    interrupted.a_cancelled_load_stops_and_is_undone,
    interrupted.a_load_ends_with_its_patience,
    interrupted.a_machine_that_dies_while_it_boots_ends_the_load,
    interrupted.what_belongs_to_another_lab_is_not_touched,
    interrupted.nothing_is_left_behind,
)
"""In an order in which each finds what it needs: one machine is booted, and used by those that need one running."""


def check_file(path: Path, against: Path | None = None, say: Say = _silent, *, only: Sequence[str] = ()) -> Report:
    """Runs the contract against the module in a file or folder; `say` hears each result as it comes.

    `against` is a file that describes a machine to try it on. Without one a module that can bring up a hypervisor
    here is tried on that, and of any other only what can be seen without running it. `only`: items whose names have one
    of these words in them; all if it is empty.
    Raises SettingsError for a description that cannot be used.
    """
    target = read_against(against) if against else None
    try:
        module = subject(path)
    except BrokenModule as broken:
        return _unusable(path, broken, say)
    return check(module, target, say, only=only)


def check(module: Subject, against: Against | None = None, say: Say = _silent, *, only: Sequence[str] = ()) -> Report:
    """As check_file, for a module that is imported already."""
    say(_usable())
    results = [_usable(), *run_items(_named(STATIC, only), module, say, at_most=60)]
    with _target(module, against) as target:
        if isinstance(target, str):
            results.append(_not_live(target))
            say(results[-1])
        elif module.kind == "os":
            results += _check_guest(module, target, say, only)
        else:
            results += _check_provisioner(module, target, say, only)
    return Report(module=module.name, path=str(module.file), results=results)


def _named(items: Sequence[Item[T]], only: Sequence[str]) -> list[Item[T]]:
    return [item for item in items if not only or any(words in name_of(item) for words in only)]


def _check_provisioner(module: Subject, against: Against, say: Say, only: Sequence[str]) -> list[Checked]:
    with tempfile.TemporaryDirectory(prefix="vcl-check-") as folder:
        bench = Bench(subject=module, against=against, folder=Path(folder))
        try:
            bench.empty()
            bench.at_first = bench.inventory() if bench.sees else []
            return run_items(_named(LIVE, only), bench, say, at_most=_limit(against))
        finally:
            bench.close()


def _check_guest(module: Subject, against: Against, say: Say, only: Sequence[str]) -> list[Checked]:
    with tempfile.TemporaryDirectory(prefix="vcl-check-") as folder:
        of_machine = replace(against, options=against.provisioner_options)
        machine = Bench(subject=_provisioner(against.provisioner), against=of_machine, folder=Path(folder))
        bench = GuestBench(machine=machine, subject=module, options_table=dict(against.options))
        try:
            machine.empty()
            return run_items(_named(inside.INSIDE, only), bench, say, at_most=_limit(against))
        finally:
            machine.empty()
            machine.close()


def _provisioner(name: str) -> Subject:
    """The provisioning module of that name, or in that file. Raises BrokenModule."""
    if Path(name).exists():
        return subject(Path(name))
    source = find(()).get(("provisioning", name))
    if source is None or source.file is None:
        raise BrokenModule(f"there is no provisioning module {name!r}", "give its name, or the path of its file")
    return subject(source.file)


@contextmanager
def _target(module: Subject, against: Against | None) -> Generator[Against | str]:
    """What to try the module on; a sentence if there is nothing."""
    if against is not None:
        named = module.kind == "provisioning" or against.provisioner
        yield against if named else "the description does not say which provisioner loads the machine"
        return
    host = _brings_up_its_own(module)
    if isinstance(host, str):
        yield host
        return
    with tempfile.TemporaryDirectory(prefix="vcl-check-host-") as folder:
        try:
            lab = host.up(Path(folder), 2)
            against = replace(against_lab(lab), provisioner=module.name)
            _build(lab, against.image.name)
            yield against
        finally:
            host.down(Path(folder))


def _brings_up_its_own(module: Subject) -> type[LocalHost] | str:
    """Who brings up a hypervisor here: the module itself; for an OS module the provisioning module of its name."""
    try:
        provisioner = module.module if module.kind == "provisioning" else _provisioner(module.name).module
    except BrokenModule:
        return "nothing is known of a machine to try it on: describe one, and give it with --against"
    if not issubclass(provisioner, LocalHost):
        return "it brings up no hypervisor of its own: describe one, and give it with --against"
    missing = provisioner.missing()
    return f"this machine lacks {'; '.join(missing)}" if missing else provisioner


def _limit(against: Against) -> float:
    """Seconds after which an item counts as one that never ends."""
    return 3 * against.boot + 10 * against.call


def _usable() -> Checked:
    return Checked(name=_FORM, proves=_FORM_PROVES, verdict=Verdict.PASSED)


def _unusable(path: Path, broken: BrokenModule, say: Say) -> Report:
    checked = replace(_usable(), verdict=Verdict.FAILED, why=broken.said, fix=broken.hint)
    say(checked)
    return Report(module=path.stem, path=str(path), results=[checked])


_FORM = "its file can be used"
_FORM_PROVES = (
    "The file imports, names its MODULE, is written for this API, writes each method; its Options are frozen."
)


def _not_live(why: str) -> Checked:
    proves = "The contract holds on a machine."
    return Checked(name="everything that needs a machine", proves=proves, verdict=Verdict.NOT_APPLICABLE, why=why)


def _build(lab: LocalLab, name: str) -> None:
    """Builds the lab's first image into its repository, if it is one that has to be built."""
    image, repository = lab.images[0], open_repository(lab.repository_path)
    if image.profile:
        spec, patience = load_profile(image.profile), Patience(BUILD)
        build_image(spec, repository, name=name, image=image.name, revision=1, patience=patience, say=_unheard)


def _unheard(_: str) -> None:
    """The kit tells of its items only."""
