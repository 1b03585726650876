"""What is drawn, explained and refused, from values alone."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from rich.console import Console, RenderableType

from vcl_provision.faces import journal
from vcl_provision.faces.cli import pages
from vcl_provision.faces.cli.listings import COMPUTERS
from vcl_provision.faces.connecting import WayIn
from vcl_provision.faces.errors import HINTS, Exit, Failed, explained, run_clearly
from vcl_provision.faces.explaining import WHAT_TO_DO, explain
from vcl_provision.faces.lab.folder import LabFolder, forget, present_lab, remember, usual_folder
from vcl_provision.faces.lab.people import usual_user
from vcl_provision.faces.output import WHOLE, moment, span, table
from vcl_provision.faces.picture import MARGIN, Picture
from vcl_provision.faces.place import NoPlace, find_place
from vcl_provision.faces.sql_shell import call
from vcl_provision.faces.story import NoSuchRequest, Story
from vcl_provision.faces.watch import Printed
from vcl_provision.model.faults import Refused, SettingsError
from vcl_provision.model.shipped import shipped
from vcl_provision.model.states import RequestState
from vcl_provision.model.steps import Step
from vcl_provision.store.database import DatabaseAway
from vcl_provision.store.listings import ListedComputer
from vcl_provision.store.requests import Entry, LoadStep, Machine, Status

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


STATUS = Status(
    id=17,
    user="alice",
    image="debian12",
    computer="vm1",
    state="new",
    since=ago(20),
    doing="waiting for the guest to boot",
    address="10.0.0.5",
    connect=None,
    start_time=ago(20),
    end_time=NOW + timedelta(hours=2),
    remote_address=None,
    fault=None,
    hint=None,
    moved=None,
)
MACHINE = Machine(
    reservation_id=21,
    computer="vm1",
    address="10.0.0.5",
    host_key="ssh-ed25519 AAAA",
    granted_address=None,
    waiting_because=None,
    worked_on_by="node-1",
    due_at=None,
    attempts=0,
)
BOOTING = (
    LoadStep(reservation_id=21, step=Step.TRANSFERVM, at=ago(10), info=""),
    LoadStep(reservation_id=21, step=Step.BOOTING, at=ago(8), info=""),
)
STORY = Story(status=STATUS, machines=[MACHINE], steps=BOOTING, boot_seconds=16, taken=NOW)


def seen(what: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=120, force_terminal=False).print(what)
    return out.getvalue()


def in_state(state: RequestState, **machine: object) -> Story:
    waiting = {"worked_on_by": None, "waiting_because": "waiting for the user", **machine}
    return replace(STORY, status=replace(STATUS, state=state.value), machines=[replace(MACHINE, **waiting)])


def test_the_picture_has_each_step_with_its_seconds_and_how_much_of_the_boot_is_over() -> None:
    drawn = seen(Picture(STORY))
    assert "request 17: debian12 for alice on vm1 · new" in drawn
    assert "making the machine's disk" in drawn
    assert "2.0 s" in drawn
    assert re.search(r"[5-9]\d% of about 16 s", drawn)


def test_the_picture_says_why_nothing_happens() -> None:
    waits = in_state(RequestState.NEW, waiting_because="all computers are taken")
    assert "… all computers are taken" in seen(Picture(waits))
    untouched = replace(STORY, steps=(), machines=[replace(MACHINE, worked_on_by=None)])
    assert "… waiting for vcld to take it up" in seen(Picture(untouched))


def test_the_picture_ticks_the_waiting_for_the_user_only_when_it_is_over() -> None:
    ready = LoadStep(reservation_id=MACHINE.reservation_id, at=NOW, step=Step.RESERVED, info="")
    waits = replace(in_state(RequestState.RESERVED), steps=[*BOOTING, ready])
    assert "○ waiting for the user" in seen(Picture(waits))
    used = replace(waits, status=replace(waits.status, state="inuse", since=NOW + timedelta(seconds=9)))
    assert "✓ waiting for the user" in seen(Picture(used))


@pytest.mark.parametrize("width", [40, 50, 60, 80, 100, 160])
def test_the_picture_fits_where_it_is_drawn(width: int) -> None:
    out = StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(Picture(STORY))
    drawn = out.getvalue()
    assert "2.0 s" in drawn
    assert ("of about 16 s" in drawn) == (width >= 80)
    steps = drawn[drawn.index("✓") :].splitlines()
    assert max(len(line.rstrip()) for line in steps) <= width - MARGIN


def test_on_paper_each_step_stands_once_with_its_seconds_and_before_the_state_that_it_led_to() -> None:
    out = StringIO()
    printed = Printed(Console(file=out, width=200))
    printed.update(STORY, ended=False)
    ready = LoadStep(reservation_id=21, step=Step.NODEREADY, at=ago(2), info="")
    waits = replace(in_state(RequestState.NEW, waiting_because="the guest does not answer yet"), steps=BOOTING)
    printed.update(waits, ended=False)
    reserved = replace(in_state(RequestState.RESERVED), steps=[*BOOTING, ready])
    printed.update(replace(reserved, status=replace(reserved.status, since=ago(1))), ended=True)
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["request", "17:", "debian12", "for", "alice", "on", "vm1", "·", "new"],
        ["2.0", "s", "making", "the", "machine's", "disk"],
        ["...", "the", "guest", "does", "not", "answer", "yet"],
        ["6.0", "s", "waiting", "for", "the", "guest", "to", "boot"],
        ["1.0", "s", "the", "machine", "is", "ready"],
        ["request", "17:", "debian12", "for", "alice", "on", "vm1", "·", "reserved"],
        ["...", "waiting", "for", "the", "user"],
    ]


def test_on_paper_machines_of_a_cluster_have_each_their_steps() -> None:
    out = StringIO()
    two = [MACHINE, replace(MACHINE, reservation_id=22, computer="vm2")]
    steps = [step for own in (BOOTING, [replace(step, reservation_id=22) for step in BOOTING]) for step in own]
    Printed(Console(file=out, width=200)).update(replace(STORY, machines=two, steps=steps), ended=False)
    assert "vm1: making the machine's disk" in out.getvalue()
    assert "vm2: making the machine's disk" in out.getvalue()


def test_who_gave_a_request_back_is_not_told_any_more_what_it_waited_for() -> None:
    given_back = in_state(RequestState.DELETED, waiting_because="the user has been away for 10 s")
    out = StringIO()
    Printed(Console(file=out, width=200)).update(given_back, ended=False)
    assert "away" not in out.getvalue() + seen(Picture(given_back))


def test_a_page_of_one_request_has_its_facts() -> None:
    page = seen(pages.story(STORY))
    assert [word for word in ("10.0.0.5", "until", "new for") if word not in page] == []


def test_an_explanation_says_what_was_is_and_can_be() -> None:
    told = explain(STORY)
    assert told.happened == ["making the machine's disk (2.0 s)"]
    assert told.happens[1].startswith("node-1 is at work: waiting for the guest to boot, for ")
    assert ("loaded", "reserved", "the machine is ready and waits for its user") in told.follows
    assert told.to_do == "wait, or give it back: vcl end 17"


def test_who_was_moved_reads_where_from_and_where_to() -> None:
    moved = "host-1 had no room, moved to vm1 on host-2"
    story = replace(STORY, status=replace(STATUS, moved=moved))
    assert moved in explain(story).happened
    assert moved in seen(pages.story(story))


def test_an_explanation_of_a_failure_says_why_and_ends_with_the_hint() -> None:
    failed = replace(STATUS, state="failed", fault="the disk is full", hint="make room in /srv")
    told = explain(replace(STORY, status=failed))
    assert (list(told.trouble), told.to_do, list(told.follows)) == (["the disk is full"], "make room in /srv", [])


def test_a_request_that_nobody_looks_at_is_suspicious() -> None:
    told = explain(in_state(RequestState.NEW, due_at=ago(60)))
    assert any("does one run?" in sentence for sentence in told.happens)


def test_every_state_has_something_to_do() -> None:
    assert set(WHAT_TO_DO) == set(RequestState)


def test_a_machine_is_open_when_it_is_open_for_the_present_address() -> None:
    at = replace(STATUS, remote_address="192.0.2.7")
    assert not replace(STORY, status=at).granted
    assert not replace(STORY, status=at, machines=[replace(MACHINE, granted_address="192.0.2.8")]).granted
    assert replace(STORY, status=at, machines=[replace(MACHINE, granted_address="192.0.2.7")]).granted


def test_a_password_is_no_argument_of_psql() -> None:
    argv, environ = call("postgresql://vcl:secret@db/lab", ["-l"], {"LANG": "C"})
    assert "secret" not in " ".join(argv)
    assert argv[-1] == "-l"
    assert environ == {"LANG": "C", "PGPASSWORD": "secret"}
    assert call("dbname=lab", [], {}) == (["-d", "dbname=lab"], {})


def test_ssh_believes_the_machines_own_key_only_and_comes_from_where_it_is_said() -> None:
    way = WayIn(user="alice", address="10.0.0.5", host_key="ssh-ed25519 AAAA", come_from="10.0.0.9", key=Path("/k"))
    argv = way.ssh(("uname", "-a"))
    assert "KnownHostsCommand=/bin/echo 10.0.0.5 ssh-ed25519 AAAA" in argv
    assert "StrictHostKeyChecking=yes" in argv
    assert argv[argv.index("-b") + 1] == "10.0.0.9"
    assert argv[-3:] == ["alice@10.0.0.5", "uname", "-a"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Failed("no", status=Exit.USAGE), Exit.USAGE),
        (Refused("no", "do this"), Exit.REFUSED),
        (NoSuchRequest("none"), Exit.NOT_FOUND),
        (NoPlace("none"), Exit.NO_DATABASE),
        (SettingsError("typo"), Exit.REFUSED),
        (DatabaseAway("away"), Exit.NO_DATABASE),
        (psycopg.errors.InvalidParameterValue("there is no user"), Exit.NOT_FOUND),
        (psycopg.errors.CheckViolation("no"), Exit.REFUSED),
        (psycopg.OperationalError("gone"), Exit.NO_DATABASE),
    ],
)
def test_every_error_of_ours_has_a_line_and_an_exit_status(error: Exception, status: Exit) -> None:
    out = StringIO()

    def fail() -> None:
        raise error

    assert run_clearly(fail, Console(file=out)) == status
    assert out.getvalue().startswith("error: ")
    assert explained(error).said


def test_a_defect_is_named_with_its_place_and_its_way_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("nothing to divide by")

    out = StringIO()
    assert run_clearly(fail, Console(file=out, width=200)) == Exit.DEFECT
    assert "ZeroDivisionError: nothing to divide by" in out.getvalue()
    assert "test_faces.py" in out.getvalue()
    monkeypatch.setenv("VCL_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run_clearly(fail, Console(file=out))


def test_moments_are_said_as_short_as_the_day_allows() -> None:
    noon = NOW.astimezone().replace(hour=12)
    assert moment(noon, beside=noon) == "12:00"
    assert moment(noon + timedelta(days=1), beside=noon) == f"{noon + timedelta(days=1):%a} 12:00"
    assert moment(noon + timedelta(days=30), beside=noon) == f"{noon + timedelta(days=30):%d %b} 12:00"
    assert moment(noon.replace(year=noon.year + 1), beside=noon) == f"{noon:%d %b} {noon.year + 1} 12:00"
    assert span(noon, noon + timedelta(hours=2)).endswith("12:00-14:00")
    assert moment(None) == ""


def test_within_a_day_the_end_is_said_by_its_hour() -> None:
    late = (NOW - timedelta(days=30)).astimezone().replace(hour=23, minute=54)
    assert span(late, late + timedelta(hours=1)) == f"{moment(late)}-00:54"
    assert span(late, late + timedelta(days=1)) == f"{moment(late)}-{late + timedelta(days=1):%a} 23:54"


ROW = ListedComputer(
    name="computer-with-a-name",
    state="available",
    kind="virtualmachine",
    module="sim",
    host="host",
    address="10.0.0.5",
    ram_mb=1,
    cpus=1,
    holds="debian12-v1",
    request_id=17,
    user="alice",
    next_at=None,
)


@pytest.mark.parametrize("width", [20, 40, 80, WHOLE])
def test_a_list_is_cut_nowhere(width: int) -> None:
    out = StringIO()
    Console(file=out, width=width, force_terminal=width != WHOLE, color_system=None).print(
        table([ROW], COMPUTERS), crop=False
    )
    assert [word for word in (*COMPUTERS, ROW.name, "17 (alice)", "debian12-v1") if word not in out.getvalue()] == []
    assert out.getvalue().count("\n") == 3


ENTRY = Entry(id=1, at=NOW, request_id=17, computer="vm1", kind="state", said="new -> reserved", fields={})


def test_the_journal_says_the_day_where_it_changes() -> None:
    out = StringIO()
    printed = journal.Printed(Console(file=out, width=200), as_json=False)
    printed.update([replace(ENTRY, at=NOW - timedelta(days=2)), replace(ENTRY, at=NOW - timedelta(days=1))])
    printed.update([replace(ENTRY, at=NOW - timedelta(days=1)), replace(ENTRY, at=datetime.now(UTC))])
    moments = (NOW - timedelta(days=2), NOW - timedelta(days=1), datetime.now(UTC))
    days = [f"{at.astimezone():%a %d %b %Y}" for at in moments]
    assert [line for line in out.getvalue().splitlines() if "new -> reserved" not in line] == days


@pytest.mark.parametrize("constraint", HINTS)
def test_a_constraint_that_people_run_into_is_one_of_the_schema(constraint: str) -> None:
    assert re.search(rf"CONSTRAINT {constraint}\s", shipped("schema.sql").read_text())


def test_a_database_without_our_tables_says_how_they_come() -> None:
    said = explained(psycopg.errors.UndefinedTable('relation "request" does not exist'))
    assert (said.status, "vcl db migrate" in said.hint) == (Exit.NO_DATABASE, True)


def test_the_place_is_looked_for_in_order(tmp_path: Path) -> None:
    (tmp_path / "vcld.toml").write_text('[database]\ndsn = "dbname=lab"\n')
    (tmp_path / "other.toml").write_text('[database]\ndsn = "dbname=other"\n')
    environ = {"VCL_LAB": str(tmp_path)}
    found = (
        find_place(dsn="dbname=given", conf=tmp_path / "other.toml", environ={"VCL_DSN": "dbname=environ"}).dsn,
        find_place(conf=tmp_path / "other.toml", environ={"VCL_DSN": "dbname=environ"}).dsn,
        find_place(conf=tmp_path / "other.toml", environ=environ).dsn,
        find_place(environ=environ | {"VCL_CONF": str(tmp_path / "other.toml")}).dsn,
        find_place(environ=environ).dsn,
    )
    assert found == ("dbname=given", "dbname=environ", "dbname=other", "dbname=other", "dbname=lab")


def test_without_a_lab_there_is_no_place(tmp_path: Path) -> None:
    with pytest.raises(NoPlace):
        find_place(environ={"VCL_LAB": str(tmp_path / "nothing")})


def test_the_lab_that_was_brought_up_last_is_the_present_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert usual_folder(environ) == tmp_path / "vcl" / "lab"
    assert present_lab(environ) is None
    remember(LabFolder(Path("/srv/lab")), environ)
    assert present_lab(environ) == LabFolder(Path("/srv/lab"))
    forget(LabFolder(Path("/srv/other")), environ)
    assert present_lab(environ) == LabFolder(Path("/srv/lab"))
    forget(LabFolder(Path("/srv/lab")), environ)
    assert present_lab(environ) is None


def test_root_reserves_for_whoever_became_root_or_for_the_demos_user() -> None:
    assert usual_user({"SUDO_USER": "jo"}) == "jo"
    assert usual_user({"SUDO_USER": "root"}) == "alice"
    assert usual_user({"SUDO_USER": "Robert'); --"}) == "alice"
