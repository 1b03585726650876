"""The queue of images to be built: one build for all who ask for a key, taken over when its builder dies."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from vcl_provision.model.faults import Refused
from vcl_provision.store import builds
from vcl_provision.store.builds import ClaimedBuild, Ending, Standing
from vcl_provision.store.database import Connection, Database, listen

SPEC = {"profile": "minimal"}


def taken(conn: Connection, *, builder: str = "one") -> ClaimedBuild:
    build = builds.claim(conn, builder=builder, lease_seconds=60)
    assert build
    return build


def dies(conn: Connection) -> None:
    """Its builder has not been heard of for longer than its lease."""
    conn.execute("UPDATE image_build SET lease_until = vcl.now() - interval '1 s' WHERE state = 'running'")


def test_twenty_who_ask_for_one_key_at_once_get_one_build(database: Database) -> None:
    ready = threading.Barrier(8)

    def ask(number: int) -> tuple[int, bool]:
        with database.session() as conn:
            if number < 8:
                ready.wait(10)
            return builds.enqueue(conn, key="debian 12 minimal amd64", spec=SPEC)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(20)))
    assert len({number for number, _ in answers}) == 1
    assert sum(new for _, new in answers) == 1


def test_a_build_that_is_over_does_not_serve_the_next_who_ask(conn: Connection) -> None:
    first, _ = builds.enqueue(conn, key="k", spec=SPEC)
    builds.finish(conn, taken(conn), Ending.FAILED, said="no space")
    assert builds.enqueue(conn, key="k", spec=SPEC) == (first + 1, True)


def test_builds_are_taken_in_order_each_by_one_builder(conn: Connection) -> None:
    numbers = [builds.enqueue(conn, key=f"k{n}", spec={"n": n}, asked_by="alice")[0] for n in range(3)]
    assert [taken(conn, builder=name).id for name in ("one", "two")] == numbers[:2]
    assert [(row.key, row.state, row.builder) for row in builds.latest(conn, 9)] == [
        ("k2", "queued", None),
        ("k1", "running", "two"),
        ("k0", "running", "one"),
    ]
    assert builds.one(conn, numbers[0]).asked_by == "alice"


def test_what_a_build_says_is_kept_in_order(conn: Connection) -> None:
    number, _ = builds.enqueue(conn, key="k", spec=SPEC)
    build = taken(conn)
    assert build.spec == SPEC
    for lines in (["base system", "a zero byte: \0"], [], ["disk"]):
        assert builds.carry_on(conn, build, lines=lines, lease_seconds=60) is Standing.GOES_ON
    assert [line.line for line in builds.log_since(conn, number, 0)] == ["base system", "a zero byte: �", "disk"]
    last = builds.log_since(conn, number, 0)[1].id
    assert [line.line for line in builds.log_since(conn, number, last)] == ["disk"]


def test_a_build_whose_builder_died_is_taken_over_and_the_dead_one_has_no_more_say(conn: Connection) -> None:
    builds.enqueue(conn, key="k", spec=SPEC)
    dead = taken(conn)
    assert builds.claim(conn, builder="two", lease_seconds=60) is None
    dies(conn)
    living = taken(conn, builder="two")
    assert living.id == dead.id
    assert builds.carry_on(conn, dead, lines=["late"], lease_seconds=60) is Standing.LOST
    assert not builds.finish(conn, dead, Ending.DONE, revision_name="late")
    assert builds.finish(conn, living, Ending.DONE, revision_name="k-v1")
    assert builds.one(conn, living.id).revision_name == "k-v1"
    assert builds.log_since(conn, living.id, 0) == []


def test_a_build_that_kills_its_builders_is_given_up(conn: Connection) -> None:
    number, _ = builds.enqueue(conn, key="k", spec=SPEC)
    for _ in range(builds.MOST_ATTEMPTS):
        taken(conn)
        dies(conn)
    assert builds.claim(conn, builder="one", lease_seconds=60) is None
    build = builds.one(conn, number)
    assert (build.state, build.said) == ("failed", "3 builders died of it")


def test_what_is_handed_back_is_next_and_costs_no_attempt(conn: Connection) -> None:
    number, _ = builds.enqueue(conn, key="k", spec=SPEC)
    for _ in range(2 * builds.MOST_ATTEMPTS):
        builds.hand_back(conn, taken(conn))
    assert builds.one(conn, number).state == "queued"
    assert taken(conn).id == number


def test_one_that_waits_is_cancelled_at_once_and_one_that_runs_is_told_to_stop(conn: Connection) -> None:
    running, waiting = (builds.enqueue(conn, key=key, spec=SPEC)[0] for key in "ab")
    build = taken(conn)
    assert builds.cancel(conn, waiting) == "cancelled"
    assert builds.cancel(conn, running) == "running"
    assert builds.carry_on(conn, build, lines=[], lease_seconds=60) is Standing.CANCELLED
    builds.finish(conn, build, Ending.CANCELLED)
    with pytest.raises(Refused, match="is over: it is 'cancelled'"):
        builds.cancel(conn, running)
    with pytest.raises(Refused, match="no build 99"):
        builds.cancel(conn, 99)


def test_one_to_be_cancelled_whose_builder_died_is_cancelled_and_not_built_again(conn: Connection) -> None:
    number, _ = builds.enqueue(conn, key="k", spec=SPEC)
    taken(conn)
    builds.cancel(conn, number)
    dies(conn)
    assert builds.claim(conn, builder="two", lease_seconds=60) is None
    assert builds.one(conn, number).state == "cancelled"


def test_each_change_is_heard(conn: Connection, dsn: str) -> None:
    listener = listen(dsn, [builds.CHANNEL])
    number, _ = builds.enqueue(conn, key="k", spec=SPEC)
    build = taken(conn)
    builds.cancel(conn, number)
    builds.finish(conn, build, Ending.CANCELLED)
    heard = [one.payload for one in listener.heard(5)]
    while len(heard) < 4 and (more := listener.heard(1)):
        heard += [one.payload for one in more]
    assert heard == [str(number)] * 4
    listener.close()


def test_what_is_old_is_forgotten_with_its_log(conn: Connection) -> None:
    builds.enqueue(conn, key="a", spec=SPEC)
    build = taken(conn)
    builds.carry_on(conn, build, lines=["x"], lease_seconds=60)
    builds.finish(conn, build, Ending.DONE, revision_name="a-v1")
    waiting, _ = builds.enqueue(conn, key="b", spec=SPEC)
    builds.prune(conn, older_than=0)
    assert [row.id for row in builds.latest(conn, 9)] == [waiting]
    assert conn.execute("SELECT count(*) FROM image_build_log").fetchall() == [(0,)]
