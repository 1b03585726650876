"""The builder's part around a build: its lease, what it says, and every way in which it can end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import psycopg
import pytest

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.building import Builder, Make, Say
from vcl_provision.model.faults import Refused
from vcl_provision.store import builds
from vcl_provision.store.builds import Build
from vcl_provision.store.database import Connection, Database

LEASE = 60.0


@pytest.fixture
def asked(conn: Connection) -> int:
    """The number of a build that waits."""
    return builds.enqueue(conn, key="k", spec={"name": "thing"})[0]


def a_builder(database: Database, make: Make, *, lease: float = LEASE, budget: float = 60.0) -> Builder:
    return Builder(database=database, name="here", make=make, lease=lease, budget=budget)


def quick(spec: Mapping[str, object], patience: Patience, say: Say) -> str:
    say("base system")
    say("disk")
    return f"{spec['name']}-v1"


def refuses(spec: Mapping[str, object], patience: Patience, say: Say) -> str:
    raise Refused("there is no suite bookwurm", "did you mean bookworm?")


def breaks(spec: Mapping[str, object], patience: Patience, say: Say) -> str:
    raise ZeroDivisionError("division by zero")


class Endless:
    """A build that goes on until it is stopped; `began` is set when it runs."""

    def __init__(self) -> None:
        self.began, self.stopped = threading.Event(), threading.Event()

    def __call__(self, spec: Mapping[str, object], patience: Patience, say: Say) -> str:
        say("begins")
        self.began.set()
        try:
            patience.until(lambda: False, "the end of an endless build", every=60)
        finally:
            self.stopped.set()
        return ""


@contextmanager
def at_work(builder: Builder) -> Generator[None]:
    """Serves in a thread; told to stop at the end."""
    thread = threading.Thread(target=builder.serve)
    thread.start()
    try:
        yield
    finally:
        builder.stop()
        thread.join(30)
        assert not thread.is_alive()


def until(conn: Connection, number: int, holds: Callable[[Build], bool]) -> Build:
    return Patience(20).until(
        lambda: build if holds(build := builds.one(conn, number)) else None, "the build", every=0.02
    )


def lines(conn: Connection, number: int) -> list[str]:
    return [line.line for line in builds.log_since(conn, number, 0)]


def test_a_build_is_made_and_what_it_said_is_kept(database: Database, conn: Connection, asked: int) -> None:
    assert a_builder(database, quick).take_one()
    build = builds.one(conn, asked)
    assert (build.state, build.revision_name, build.builder) == ("done", "thing-v1", "here")
    assert lines(conn, asked) == ["base system", "disk"]
    assert not a_builder(database, quick).take_one()


@pytest.mark.parametrize(
    ("make", "said", "hint"),
    [
        (refuses, "there is no suite bookwurm", "did you mean bookworm?"),
        (breaks, "ZeroDivisionError: division by zero", "a defect of the builder: its log has the way there"),
    ],
)
def test_a_build_that_fails_says_why(
    database: Database, conn: Connection, asked: int, make: Make, said: str, hint: str
) -> None:
    a_builder(database, make).take_one()
    build = builds.one(conn, asked)
    assert (build.state, build.said, build.hint) == ("failed", said, hint)


def test_a_build_that_takes_too_long_is_cut_off(database: Database, conn: Connection, asked: int) -> None:
    a_builder(database, Endless(), budget=0.1).take_one()
    build = builds.one(conn, asked)
    assert build.state == "failed"
    assert "an endless build" in (build.said or "")


def test_what_comes_is_heard_and_a_cancel_reaches_a_running_build(
    database: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcl_provision.daemon.building.LOOKS", 600.0)
    endless = Endless()
    with at_work(a_builder(database, endless)):
        number, _ = builds.enqueue(conn, key="k", spec={})
        assert endless.began.wait(20)
        builds.cancel(conn, number)
        until(conn, number, lambda build: build.state == "cancelled")
        assert endless.stopped.is_set()
    assert lines(conn, number) == ["begins"]


def test_a_builder_that_stops_hands_its_build_back(database: Database, conn: Connection, asked: int) -> None:
    endless = Endless()
    with at_work(a_builder(database, endless)):
        assert endless.began.wait(20)
    assert builds.one(conn, asked).state == "queued"
    assert a_builder(database, quick).take_one()
    assert builds.one(conn, asked).state == "done"


def test_a_build_that_another_builder_has_by_now_is_stopped_and_left_alone(
    database: Database, conn: Connection, asked: int
) -> None:
    endless = Endless()
    with at_work(a_builder(database, endless)):
        assert endless.began.wait(20)
        conn.execute("UPDATE image_build SET builder = 'there', claim_token = gen_random_uuid()")
        assert endless.stopped.wait(20)
    assert (builds.one(conn, asked).state, builds.one(conn, asked).builder) == ("running", "there")


def test_connections_that_break_cost_neither_the_builder_nor_its_build(
    database: Database, conn: Connection, asked: int
) -> None:
    go_on = threading.Event()

    def make(spec: Mapping[str, object], patience: Patience, say: Say) -> str:
        say("before")
        patience.until(go_on.is_set, "the word", every=0.02)
        say("after")
        return "k-v1"

    with at_work(a_builder(database, make)):
        until(conn, asked, lambda build: build.state == "running")
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                     "WHERE pid <> pg_backend_pid() AND datname = current_database()")
        go_on.set()
        until(conn, asked, lambda build: build.state == "done")
        more, _ = builds.enqueue(conn, key="more", spec={})
        until(conn, more, lambda build: build.state == "done")
    assert lines(conn, asked) == ["before", "after"]


def test_without_a_lease_nothing_is_finished(database: Database, conn: Connection, asked: int) -> None:
    """A builder that hung longer than its lease finds its build with another one."""
    def make(spec: Mapping[str, object], patience: Patience, say: Say) -> str:
        with psycopg.connect(database.dsn, autocommit=True) as other:
            other.execute("UPDATE vcl.image_build SET claim_token = gen_random_uuid(), builder = 'there'")
        return "late-v1"

    a_builder(database, make).take_one()
    assert builds.one(conn, asked).revision_name is None
