"""The simulated hypervisor: it lasts, it takes time, it goes wrong as told, and it notices what must not happen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fix_sim import ALICE, BOB, CAFE, HOME, SimLab

from modules.provisioning.sim import (
    Kind,
    Options,
    World,
    doubles,
    fired,
    heal,
    log_in,
    log_out,
    logged_in,
    read_script,
    script,
)
from vcl_provision.drivers import (
    Cancelled,
    CommandFailed,
    Computer,
    ConnectionDropped,
    HostUnreachable,
    NodeStatus,
    Patience,
    Power,
    Refused,
    TimedOut,
    Transient,
    User,
    WrongHostKey,
)
from vcl_provision.drivers.loading import Modules
from vcl_provision.model.faults import SettingsError


def ready(lab: SimLab) -> Computer:
    """A computer, loaded and prepared."""
    computer = lab.loaded()
    lab.guest().post_load(computer, lab.revision())
    return replace(computer, prepared=True)


def given_to(lab: SimLab, computer: Computer, user: User) -> None:
    lab.guest().add_user(computer, lab.revision(), user)
    lab.guest().grant_access(computer, lab.revision(), user, HOME)


def test_a_loaded_machine_needs_its_post_load_then_nothing(lab: SimLab) -> None:
    computer = lab.loaded()
    assert lab.sim().node_status(computer, lab.revision()) is NodeStatus.POST_LOAD
    assert lab.sim().node_status(ready(lab), lab.revision()) is NodeStatus.READY


@pytest.mark.parametrize("changed", [{"host_key": "ssh-ed25519 another"}, {"tainted": True}, {"name": "sim2"}])
def test_in_doubt_a_machine_needs_a_load(lab: SimLab, changed: dict[str, Any]) -> None:
    computer = replace(ready(lab), **changed)
    assert lab.sim(computer).node_status(computer, lab.revision()) is NodeStatus.RELOAD


def test_another_revision_needs_a_load(lab: SimLab) -> None:
    assert lab.sim().node_status(ready(lab), lab.revision(2)) is NodeStatus.RELOAD


def test_what_is_there_outlives_a_process_that_is_killed(lab: SimLab) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from fix_sim import SimLab
lab = SimLab(folder=Path(sys.argv[1]))
lab.loaded()
os.kill(os.getpid(), signal.SIGKILL)
"""
    here = Path(__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", code, str(lab.folder)],
        check=False,
        env={"PYTHONPATH": f"{here}:{here.parent}", "PATH": os.environ["PATH"]},
    )
    assert ran.returncode == -signal.SIGKILL
    assert lab.sim().node_status(lab.computer(), lab.revision()) is NodeStatus.POST_LOAD


def test_many_threads_and_connections_may_use_it_at_once(lab: SimLab) -> None:
    lab.sim().retrieve_image(lab.revision(), lab.host)
    other = SimLab(folder=lab.folder)
    errors: list[Exception] = []

    def work(mine: SimLab, n: int) -> None:
        try:
            for turn in range(4):
                mine.loaded(lab.computer(f"sim{n}-{turn % 2}"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(each, n)) for n, each in enumerate([lab, other] * 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.kept.close()
    assert errors == []
    assert len({found.name for found in lab.sim().inventory(lab.host)}) == 16
    assert doubles(lab.world) == []


def test_nothing_of_somebody_else_is_touched(lab: SimLab) -> None:
    lab.sim().retrieve_image(lab.revision(), lab.host)
    lab.sim(owner="vcl:another:sim1").load(lab.computer(), lab.revision(), lab.firstboot())
    before = lab.sim().inventory(lab.host)
    for action in Power:
        with pytest.raises(Refused, match="holds what is not ours"):
            lab.sim().control_VM(lab.computer(), action)
    with pytest.raises(Refused):
        lab.sim().load(lab.computer(), lab.revision(), lab.firstboot())
    assert lab.sim().inventory(lab.host) == before
    assert lab.sim().node_status(lab.computer(), lab.revision()) is NodeStatus.RELOAD


def test_an_undo_takes_away_its_own_load_only(lab: SimLab) -> None:
    computer = lab.loaded()
    first = lab.effects(computer).written()
    lab.loaded()
    lab.sim().undo(first[0].action, first[0].arguments)
    assert lab.sim().inventory(lab.host)
    lab.effects(computer).play_backwards(lab.sim())
    lab.effects(computer).play_backwards(lab.sim())
    assert lab.sim().inventory(lab.host) == []


def test_an_image_that_the_repository_does_not_hold_is_refused(lab: SimLab) -> None:
    with pytest.raises(Refused, match="holds no image"):
        lab.sim().retrieve_image(lab.revision(image="no-such-image"), lab.host)


def test_a_capture_becomes_an_image_that_can_be_fetched(lab: SimLab) -> None:
    computer = lab.loaded()
    lab.sim().capture(computer, lab.revision(2))
    assert not lab.sim().does_image_exist(lab.revision(2), lab.host)
    lab.sim().retrieve_image(lab.revision(2), lab.host)
    assert lab.sim().does_image_exist(lab.revision(2), lab.host)


def test_a_user_gets_in_only_through_an_account_and_an_open_firewall(lab: SimLab) -> None:
    computer = ready(lab)
    with pytest.raises(ConnectionRefusedError, match="firewall"):
        log_in(lab.world, "sim1", "alice", str(HOME))
    given_to(lab, computer, ALICE)
    with pytest.raises(ConnectionRefusedError, match="firewall"):
        log_in(lab.world, "sim1", "alice", str(CAFE))
    with pytest.raises(ConnectionRefusedError, match="no account"):
        log_in(lab.world, "sim1", "bob", str(HOME))
    guest = lab.guest()
    assert not guest.is_connected(computer, lab.revision(), ALICE, HOME)
    log_in(lab.world, "sim1", "alice", str(HOME))
    assert guest.is_connected(computer, lab.revision(), ALICE, HOME)
    log_out(lab.world, "sim1", "alice")
    assert not guest.is_connected(computer, lab.revision(), ALICE, HOME)


def test_a_new_address_closes_the_old_one_and_revoking_ends_connections(lab: SimLab) -> None:
    computer = ready(lab)
    given_to(lab, computer, ALICE)
    log_in(lab.world, "sim1", "alice", str(HOME))
    lab.guest().grant_access(computer, lab.revision(), ALICE, CAFE)
    assert logged_in(lab.world, "sim1") == []
    log_in(lab.world, "sim1", "alice", str(CAFE))
    lab.guest().revoke_access(computer)
    assert logged_in(lab.world, "sim1") == []


def test_users_come_and_go_by_themselves_if_told_to(lab: SimLab) -> None:
    lab.options = Options(users_come="10", users_stay="60")
    computer = ready(lab)
    given_to(lab, computer, ALICE)

    def is_in() -> bool:
        return lab.guest().is_connected(computer, lab.revision(), ALICE, HOME)

    assert not is_in()
    lab.clock += 10
    assert is_in()
    lab.clock += 60
    assert not is_in()


def test_a_guest_answers_when_it_has_booted(lab: SimLab) -> None:
    lab.options = Options(delays={"boot": "30"})
    lab.patience = Patience(0.3)
    with pytest.raises(TimedOut, match="to answer"):
        lab.loaded()
    lab.clock += 30
    lab.patience = Patience(20)
    assert lab.sim().guest_channel(lab.computer()).run(["true"], patience=lab.patience).status == 0


def test_a_channel_breaks_when_the_machine_is_loaded_anew(lab: SimLab) -> None:
    computer = lab.loaded()
    channel = lab.sim().guest_channel(computer)
    lab.loaded()
    with pytest.raises(ConnectionDropped):
        channel.run(["true"], patience=lab.patience)


def test_an_unknown_command_fails_as_a_shell_would_say_it(lab: SimLab) -> None:
    lab.loaded()
    with pytest.raises(CommandFailed, match="command not found"):
        lab.sim().guest_channel(lab.computer()).run(["rm"], patience=lab.patience)


def test_a_wait_ends_when_the_work_is_cancelled(lab: SimLab) -> None:
    lab.options = Options(delays={"node_status": "constant(3600)"})
    threading.Timer(0.05, lab.patience.cancel).start()
    with pytest.raises(Cancelled):
        lab.sim().node_status(lab.computer(), lab.revision())


@pytest.mark.parametrize("spec", ["soon", "uniform(1)", "uniform(1, x)", "gauss(1, 2)", "-1", "uniform(-1, 2)", "nan"])
def test_a_delay_that_says_nothing_is_refused(spec: str) -> None:
    with pytest.raises(SettingsError, match="a delay cannot be"):
        Modules(options={"sim": {"delays": {"load": spec}}}).check_options()


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [("uniform(0.1, 0.5)", 0.1, 0.5), ("2", 2, 2), ("lognormal(5, 0)", 5, 5), ("triangular(1, 2, 3)", 1, 3)],
)
def test_delays_are_drawn_as_they_are_written(lab: SimLab, spec: str, low: float, high: float) -> None:
    draw = Options(delays={"load": spec}).delay("load")
    assert draw
    drawn = [draw(lab.world.random) for _ in range(200)]
    assert low <= min(drawn) <= max(drawn) <= high
    assert (len(set(drawn)) > 100) == (low != high)


def test_no_delay_means_no_waiting_at_all() -> None:
    assert Options(delays={"load": "0"}).delay("load") is None
    assert Options().delay("load") is None


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("failed", CommandFailed),
        ("transient", Transient),
        ("unreachable", HostUnreachable),
        ("refused", Refused),
        ("timed_out", TimedOut),
        ("bug", RuntimeError),
    ],
)
def test_a_call_fails_as_scripted(lab: SimLab, error: str, raised: type[Exception]) -> None:
    number = script(lab.world, "node_status", Kind.FAIL, error=error)
    with pytest.raises(raised, match="scripted fault"):
        lab.sim().node_status(lab.computer(), lab.revision())
    assert fired(lab.world, number) == 1
    lab.sim().node_status(lab.computer(), lab.revision())


def test_a_fault_strikes_the_nth_time_on_one_computer_and_so_many_times(lab: SimLab) -> None:
    number = read_script(lab.world, "fail node_status computer=sim2 nth=2 times=2 error=transient")
    outcomes: list[str] = []
    for name in ("sim1", "sim2", "sim2", "sim2", "sim2"):
        try:
            lab.sim(lab.computer(name)).node_status(lab.computer(name), lab.revision())
        except Transient:
            outcomes.append("failed")
        else:
            outcomes.append("well")
    assert outcomes == ["well", "well", "failed", "failed", "well"]
    assert fired(lab.world, number) == 2


def test_a_fault_added_by_sql_strikes_too(lab: SimLab) -> None:
    with lab.world.change() as change:
        change.do("INSERT INTO fault (call, kind) VALUES ('guest.add_user', 'fail')")
    computer = ready(lab)
    with pytest.raises(CommandFailed):
        lab.guest().add_user(computer, lab.revision(), ALICE)


@pytest.mark.parametrize("line", ["fail", "explode load", "fail lode", "fail load when=now", "fail load error=odd"])
def test_a_script_that_says_nothing_is_refused(lab: SimLab, line: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_script(lab.world, line)


def test_a_hanging_call_ends_with_the_patience(lab: SimLab) -> None:
    script(lab.world, "control_VM", Kind.HANG)
    lab.loaded()
    lab.patience = Patience(0.1)
    with pytest.raises(TimedOut):
        lab.sim().control_VM(lab.computer(), Power.OFF)


def test_a_lying_load_has_made_nothing(lab: SimLab) -> None:
    script(lab.world, "load", Kind.LIE)
    lab.loaded()
    assert lab.sim().inventory(lab.host) == []
    script(lab.world, "node_status", Kind.LIE)
    assert lab.sim().node_status(lab.computer(), lab.revision()) is NodeStatus.READY


def test_a_half_done_load_leaves_what_its_effects_undo(lab: SimLab) -> None:
    script(lab.world, "load", Kind.HALF)
    with pytest.raises(CommandFailed, match="half-way"):
        lab.loaded()
    assert [found.what for found in lab.sim().inventory(lab.host)] == ["simulated disk sim1"]
    lab.effects(lab.computer()).play_backwards(lab.sim())
    assert lab.sim().inventory(lab.host) == []


def test_a_half_done_fetch_leaves_no_image_that_is_believed(lab: SimLab) -> None:
    script(lab.world, "retrieve_image", Kind.HALF)
    with pytest.raises(CommandFailed):
        lab.sim().retrieve_image(lab.revision(), lab.host)
    assert not lab.sim().does_image_exist(lab.revision(), lab.host)
    assert [found.what for found in lab.sim().inventory(lab.host)] == ["simulated half an image debian12-v1"]


def test_a_half_done_command_inside_is_done_and_its_connection_is_gone(lab: SimLab) -> None:
    computer = ready(lab)
    script(lab.world, "guest.add_user", Kind.HALF)
    with pytest.raises(ConnectionDropped):
        lab.guest().add_user(computer, lab.revision(), ALICE)
    lab.guest().grant_access(computer, lab.revision(), ALICE, HOME)
    log_in(lab.world, "sim1", "alice", str(HOME))


def test_a_machine_dies_hangs_or_changes_its_key_while_it_boots(lab: SimLab) -> None:
    script(lab.world, "boot", Kind.FAIL)
    with pytest.raises(Refused, match="stopped while it booted"):
        lab.loaded()
    script(lab.world, "boot", Kind.LIE)
    with pytest.raises(WrongHostKey):
        lab.loaded()
    script(lab.world, "boot", Kind.HANG)
    lab.patience = Patience(0.2)
    with pytest.raises(TimedOut):
        lab.loaded()


def test_healing_takes_all_faults_away(lab: SimLab) -> None:
    script(lab.world, "*", Kind.FAIL, times=0)
    heal(lab.world)
    lab.loaded()


def test_two_people_on_one_machine_are_noticed(lab: SimLab) -> None:
    computer = ready(lab)
    given_to(lab, computer, ALICE)
    assert doubles(lab.world) == []
    given_to(lab, computer, BOB)
    assert "user_added for bob while alice has an account" in doubles(lab.world)[0]


def test_a_machine_given_on_without_a_load_is_noticed(lab: SimLab) -> None:
    computer = ready(lab)
    given_to(lab, computer, ALICE)
    lab.guest().delete_user(computer, "alice")
    lab.guest().add_user(computer, lab.revision(), BOB)
    assert "user_added for bob on a load that alice could have been in" in doubles(lab.world)[0]


def test_a_machine_nobody_could_have_been_in_is_given_on_without_a_word(lab: SimLab) -> None:
    computer = ready(lab)
    lab.guest().add_user(computer, lab.revision(), ALICE)
    lab.guest().sanitize(computer, ALICE)
    given_to(lab, computer, BOB)
    assert doubles(lab.world) == []


def test_a_load_that_another_one_overtook_is_stopped_and_does_nothing(lab: SimLab) -> None:
    script(lab.world, "boot", Kind.SLOW, seconds=60)
    lab.sim().retrieve_image(lab.revision(), lab.host)
    failed: list[Exception] = []

    def slow() -> None:
        try:
            lab.sim().load(lab.computer(), lab.revision(), lab.firstboot())
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failed.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    Patience(10).until(lambda: lab.sim().inventory(lab.host), "the slow load to begin", every=0.01)
    lab.loaded()
    thread.join()
    assert isinstance(failed[0], Refused | Transient)
    assert doubles(lab.world) == []


@pytest.mark.parametrize("name", ["", "Alice", "a;rm -rf /", "a" * 200, "$(id)", "-rf", "a b", "alice\n"])
def test_a_name_that_is_no_name_is_refused(lab: SimLab, name: str) -> None:
    computer = ready(lab)
    with pytest.raises(Refused, match="cannot be the name of an account"):
        lab.guest().add_user(computer, lab.revision(), replace(ALICE, name=name))


def test_bringing_up_a_lab_again_finds_it_as_it_is_and_taking_it_down_keeps_its_images(tmp_path: Path) -> None:
    sim = Modules().local_host("sim")
    made = sim.up(tmp_path, 4)
    assert [slot.name for slot in made.slots] == ["sim1", "sim2", "sim3", "sim4"]
    lab = SimLab(folder=tmp_path)
    lab.loaded()
    assert sim.up(tmp_path, 4) == made
    assert lab.sim().inventory(lab.host)
    sim.down(tmp_path)
    assert lab.sim().inventory(lab.host) == []
    assert lab.sim().does_image_exist(lab.revision(), lab.host)
    lab.kept.close()


def test_its_options_are_checked(tmp_path: Path) -> None:
    modules = Modules(options={"sim": {"path": str(tmp_path / "x.db"), "delays": {"boot": "1"}, "seed": 3}})
    assert modules.options("provisioning", "sim").delays == {"boot": "1"}
    with pytest.raises(SettingsError, match="there is no call 'lod'"):
        Modules(options={"sim": {"delays": {"lod": "1"}}}).check_options()


def test_the_world_is_one_file(tmp_path: Path) -> None:
    World(tmp_path / "deep" / "sim.db").close()
    assert {path.name.partition("-")[0] for path in (tmp_path / "deep").iterdir()} == {"sim.db"}
