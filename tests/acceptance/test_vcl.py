"""The real `vcl` and `vcld` on a simulated hypervisor: what a stranger types, and what they are told."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest
from fix_sim_lab import Vcl

from vcl_provision.channels.patience import Patience
from vcl_provision.faces.lab.daemon import LabDaemon
from vcl_provision.faces.lab.folder import LabFolder


def test_a_reservation_goes_its_whole_way_and_the_machine_is_available_again(vcl: Vcl) -> None:
    said = vcl.says("reserve", "debian12", "--user", "alice", "--hours", "2", "--watch")
    assert "waiting for the guest to boot" in said
    number = vcl.data("status")[-1]["id"]
    assert f"Request {number} is ready" in said
    assert "is open for alice" in vcl.says("connect", str(number))
    assert "on sim1 · complete" in vcl.says("end", str(number), "--watch")
    assert {row["state"] for row in vcl.data("computers")} == {"available"}
    journal = vcl.says("log", str(number))
    words = ("new -> reserved", "deleted -> reclaim", "reclaim -> complete")
    assert [word for word in words if word not in journal] == []


def test_up_again_finds_the_lab_as_it_is(vcl: Vcl) -> None:
    before = LabDaemon(LabFolder(vcl.folder)).running()
    assert "3 computers on" in vcl.says("up", "--sim", "--computers", "1")
    assert LabDaemon(LabFolder(vcl.folder)).running() == before
    assert len(vcl.data("computers")) == 3


def test_what_lists_lists_for_people_and_for_programs(vcl: Vcl) -> None:
    number = vcl.reserve("--user", "alice")
    for command, word in (("status", str(number)), ("computers", "sim1"), ("images", "debian12"), ("users", "alice")):
        assert word in vcl.says(command)
        assert word in vcl.says(command, "--json")
    assert {row["name"]: row["state"] for row in vcl.data("module", "list")}["sim"] == "ok"
    assert vcl.data("show", str(number))["request"]["user"] == "alice"


def test_plain_output_has_each_line_once_and_whole(vcl: Vcl) -> None:
    steps = [line.strip() for line in vcl.says("reserve", "debian12", "--watch").splitlines() if line[:1] == " "]
    said = [step.partition("  ")[2] or step for step in steps]
    assert sorted(said) == sorted(set(said))
    assert "waiting for the user to ask to be let in" in vcl.says("status")


def test_who_stops_watching_is_told_that_it_goes_on(vcl: Vcl) -> None:
    number = vcl.reserve("--start", "tomorrow 9:00", "--hours", "3")
    with vcl.start("show", str(number), "--watch") as watching:
        try:
            assert watching.stdout
            assert next(line for line in watching.stdout if "request" in line)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(timeout=10) == 130
        finally:
            watching.kill()
        assert watching.stderr
        assert f"vcl end {number}" in watching.stderr.read()


def test_a_request_without_end_keeps_nobody_from_the_others(vcl: Vcl) -> None:
    ask = (
        "INSERT INTO request (user_id, image_id, end_time) "
        "VALUES (user_named('alice'), image_named('debian12'), '116106-01-01') RETURNING id"
    )
    endless = int(vcl.says("db", "psql", "--", "-qtAc", ask))
    assert vcl.reserve() in [row["id"] for row in vcl.data("status")]
    Patience(20).until(lambda: vcl.data("show", str(endless))["request"]["state"] == "reserved", "it to be served")


def test_explain_says_what_happened_what_follows_and_what_to_do(vcl: Vcl) -> None:
    vcl.run("reserve", "debian12", "--watch")
    number = str(vcl.data("status")[-1]["id"])
    said = vcl.says("explain", number)
    parts = ("adding the user", "waiting for the user to ask", "no_acknowledgement", f"vcl connect {number}")
    assert [part for part in parts if part not in said] == []


def test_who_waits_is_told_why_and_served_when_a_computer_is_free(vcl: Vcl) -> None:
    first, *_ = [vcl.reserve() for _ in range(3)]
    waits = vcl.reserve()
    said = Patience(20).until(lambda: "are taken" in vcl.says("explain", str(waits)), "the reason to be shown")
    assert said
    vcl.run("end", str(first), "--watch")
    Patience(20).until(lambda: vcl.data("show", str(waits))["request"]["state"] == "reserved", "it to be served")


def test_who_does_not_want_to_wait_is_refused(vcl: Vcl) -> None:
    for _ in range(3):
        vcl.reserve()
    assert "are taken" in vcl.refuses("reserve", "debian12", "--no-wait", status=5)


def test_a_future_reservation_is_noted_and_can_be_withdrawn(vcl: Vcl) -> None:
    number = vcl.reserve("--start", "tomorrow 9:00", "--hours", "3")
    computer = Patience(20).until(lambda: vcl.data("show", str(number))["request"]["computer"], "it to get a computer")
    assert computer.startswith("sim")
    assert "it is complete" in vcl.says("end", str(number))


def test_a_reservation_lasts_longer_when_asked(vcl: Vcl) -> None:
    number = vcl.reserve("--hours", "1")
    before = vcl.data("show", str(number))["request"]["end_time"]
    vcl.run("extend", str(number), "--hours", "1")
    assert vcl.data("show", str(number))["request"]["end_time"] > before


def test_sql_needs_no_psql_of_the_machine(vcl: Vcl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ask = "INSERT INTO request (user_id, image_id) VALUES (user_named('alice'), image_named('debian12')) RETURNING id"
    number = int(vcl.says("db", "psql", "--", "-qtAc", ask))
    assert number in [row["id"] for row in vcl.data("status")]


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (("reserve", "debian13"), 3, ('no image named "debian13"', "debian12")),
        (("reserve", "debian12", "--user", "bob"), 3, ('no user named "bob"', "alice")),
        (("reserve", "debian12", "--user", "x'; DROP TABLE request; --"), 3, ("no user named", "alice")),
        (("reserve", "debian12", "--user", "a" * 200), 3, ("no user named", "alice")),
        (("reserve", "debian12", "--computer", "sim9"), 3, ('no computer named "sim9"', "sim1")),
        (("reserve", "debian12", "--until", "2020-01-01"), 1, ("before it starts", "hint: ")),
        (("reserve", "debian12", "--until", "someday"), 1, ("is no moment", "tomorrow 9:00")),
        (("show", "999999"), 3, ("no request 999999", "vcl status")),
        (("end", "999999"), 3, ("no request 999999", "vcl status")),
        (("log", "999999"), 3, ("no request 999999", "vcl status")),
        (("reserve", "debian12", "--hours", "inf"), 2, ("inf is no length of time", "hint: ")),
        (("reserve", "debian12", "--hours", "1e9"), 2, ("1e+09 is no length of time", "hint: ")),
        (("extend", "1", "--hours", "nan"), 2, ("nan is no length of time", "hint: ")),
        (("reserve", "debian12", "--hours", "2", "--until", "18:30"), 2, ("both say how long", "hint: ")),
        (("reserve", "debian12", "--user", ""), 3, ('no user named ""', "alice")),
        (("users", "add", "Robert'); DROP TABLE"), 1, ("user_name_is_one_that_a_system_takes", "hint: a user's name")),
        (("users", "add", "root$(id)"), 1, ("user_name_is_one_that_a_system_takes",)),
        (("--dsn", "host=/nowhere", "status"), 4, ("/nowhere", "vcl up")),
        (("--dsn", "garbage", "status"), 1, ("this is no DSN", "host=...")),
        (("--conf", "/nowhere.toml", "status"), 1, ("/nowhere.toml: cannot be read", "")),
    ],
)
def test_bad_input_gets_a_line_and_a_hint(vcl: Vcl, argv: tuple[str, ...], status: int, said: tuple[str, ...]) -> None:
    heard = vcl.refuses(*argv, status=status)
    assert [part for part in said if part not in heard] == []


def test_a_computer_that_is_taken_is_refused_with_who_has_it(vcl: Vcl) -> None:
    number = vcl.reserve("--computer", "sim2")
    assert f"request {number} has it" in vcl.refuses("reserve", "debian12", "--computer", "sim2")


def test_a_private_key_is_not_taken_for_a_public_one(vcl: Vcl) -> None:
    assert "private key" in vcl.refuses("users", "add", "carol", "--key", str(LabFolder(vcl.folder).user_key))


def test_a_key_that_is_no_key_is_refused(vcl: Vcl, tmp_path: Path) -> None:
    (tmp_path / "no.pub").write_text("this is no key\n")
    assert "key_is_a_line_of_authorized_keys" in vcl.refuses("users", "add", "carol", "--key", str(tmp_path / "no.pub"))


def test_a_user_is_added_with_their_key(vcl: Vcl, tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text(f"ssh-ed25519 {'A' * 68} carol\n")
    vcl.run("users", "add", "carol", "--key", str(tmp_path / "id.pub"))
    assert {row["name"]: len(row["keys"]) for row in vcl.data("users")}["carol"] == 1


def test_wrong_usage_ends_with_2(vcl: Vcl) -> None:
    vcl.run("nonsense", status=2)
    vcl.run("extend", "1", status=2)


def test_a_second_vcld_of_the_same_name_is_refused(vcl: Vcl) -> None:
    said = vcl.refuses("daemon", "run", "--conf", str(LabFolder(vcl.folder).settings))
    assert "another vcld of the name" in said


def test_settings_with_a_typo_do_not_start(vcl: Vcl, tmp_path: Path) -> None:
    (tmp_path / "vcld.toml").write_text("[work]\nworker = 3\n")
    assert "did you mean 'workers'?" in vcl.refuses("daemon", "run", "--conf", str(tmp_path / "vcld.toml"))


def test_a_killed_vcld_goes_on_where_it_was(vcl: Vcl) -> None:
    vcl.run("reserve", "debian12", "--watch")
    number = vcl.data("status")[-1]["id"]
    daemon = LabDaemon(LabFolder(vcl.folder))
    os.kill(daemon.running() or 0, signal.SIGKILL)
    Patience(10).until(lambda: daemon.running() is None, "vcld to be gone")
    daemon.start()
    assert "is open for alice" in vcl.says("connect", str(number))


def test_the_journal_can_be_followed(vcl: Vcl) -> None:
    vcl.run("reserve", "debian12", "--watch")
    with vcl.start("log", "--follow", "--lines", "1") as following:
        given_up = threading.Timer(60, following.kill)
        given_up.start()
        try:
            assert following.stdout
            assert following.stdout.readline()  # from here on it hears what comes
            number = vcl.reserve()
            assert any(str(number) in line for line in following.stdout if "new -> reserved" in line)
            following.send_signal(signal.SIGINT)
            assert following.wait(timeout=10) == 130
        finally:
            given_up.cancel()
            following.kill()


def test_down_leaves_nothing_running(tmp_path: Path) -> None:
    vcl = Vcl(tmp_path / "lab")
    vcl.run("up", "--sim", "--computers", "1")
    assert _of(tmp_path)
    vcl.run("down")
    assert _of(tmp_path) == []
    vcl.run("down", "--purge")
    assert not vcl.folder.exists()
    assert "there is no lab" in vcl.refuses("down")


def _of(folder: Path) -> list[str]:
    """Processes that have to do with a folder: their command line names it, or they work in it."""
    found: list[str] = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line or str(folder) in (process.info["cwd"] or ""):
            found.append(line)
    return found
