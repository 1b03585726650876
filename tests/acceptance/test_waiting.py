"""Who gets which computer, who waits and why, and requests of several machines."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from a_lab import a_user, an_image
from fix_daemon import HOME, DaemonLab

from modules.provisioning.sim import Kind, log_in, script


@pytest.fixture
def lab(shared: DaemonLab) -> Iterator[DaemonLab]:
    """Four computers and one daemon for all of them, whose users come only when they are told to."""
    if not shared.nodes:
        shared.node(work={"tick": 600, "lease": 60}, sim={"users_come": ""}).start()
    shared.timing(connect_poll=0.1, inuse_check=0.1)
    yield shared
    shared.sweep()


def doing(lab: DaemonLab, request: int) -> str:
    return lab.one("SELECT doing FROM request_status WHERE id = %s", request) or ""


def ready(lab: DaemonLab, *requests: int) -> None:
    for request in requests:
        lab.until_state(request, "reserved")


def computers_of(lab: DaemonLab, request: int) -> list[str]:
    rows = lab.conn.execute(
        "SELECT c.name FROM reservation r JOIN computer c ON c.id = r.computer_id WHERE request_id = %s ORDER BY 1",
        [request],
    ).fetchall()
    return [name for (name,) in rows]


def test_when_all_are_taken_one_waits_with_the_reason_and_is_served_in_order(lab: DaemonLab) -> None:
    taken = [lab.reserve(remote_address=None) for _ in range(4)]
    ready(lab, *taken)
    first, second = lab.reserve(remote_address=None), lab.reserve(remote_address=None)
    because = "all 4 computers that can run the image are taken"
    lab.until(lambda: doing(lab, first) == doing(lab, second) == because, "the reason")
    lab.end(taken[2])
    ready(lab, first)
    assert computers_of(lab, first) == computers_of(lab, taken[2])
    assert lab.state(second) == "new"
    lab.end(taken[0])
    ready(lab, second)


def test_one_that_would_not_wait_is_refused_with_what_to_do(lab: DaemonLab) -> None:
    ready(lab, *[lab.reserve(remote_address=None) for _ in range(4)])
    refused = lab.reserve(wait_for_computer=False)
    lab.until_state(refused, "failed", seconds=5)
    fault = lab.conn.execute("SELECT fault, hint FROM request_status WHERE id = %s", [refused]).fetchone()
    assert fault == (
        "all 4 computers that can run the image are taken",
        "ask for another time, or wait for one: wait_for_computer true, which is vcl reserve without --no-wait",
    )
    assert lab.one("SELECT released_at IS NOT NULL FROM reservation WHERE request_id = %s", refused) is True


def test_one_that_gives_up_waiting_leaves_the_queue(lab: DaemonLab) -> None:
    taken = [lab.reserve(remote_address=None) for _ in range(4)]
    ready(lab, *taken)
    first, second = lab.reserve(remote_address=None), lab.reserve(remote_address=None)
    lab.until(lambda: "taken" in doing(lab, second), "the reason")
    lab.end(first)
    assert lab.state(first) == "complete"
    lab.end(taken[0])
    ready(lab, second)


def test_a_computer_that_already_holds_the_image_is_preferred_and_not_loaded_again(lab: DaemonLab) -> None:
    used = lab.reserve(computer_id=lab.lab.computers[3], remote_address=None)
    ready(lab, used)
    lab.end(used)
    lab.until_state(used, "complete")
    again = lab.reserve(remote_address=None)
    ready(lab, again)
    assert computers_of(lab, again) == ["vcl-4"]
    assert len([fact for fact in lab.world.facts("vcl-4") if fact.what == "disk_made"]) == 1


def test_a_machine_that_somebody_was_in_is_never_given_to_the_next(lab: DaemonLab) -> None:
    used = lab.reserve(computer_id=lab.lab.computers[0])
    ready(lab, used)
    lab.until(lambda: "connect from" in doing(lab, used), "the machine to be open")
    lab.end(used)
    lab.until_state(used, "complete")
    lab.check_nothing_is_left()
    bob = a_user(lab.conn, "bob", keys=("ssh-ed25519 " + "B" * 68 + " bob",))
    again = lab.reserve(computer_id=lab.lab.computers[0], user_id=bob, remote_address=None)
    ready(lab, again)
    assert len({fact.instance for fact in lab.world.facts("vcl-1") if fact.what == "started"}) == 2


def test_another_image_is_loaded_over_what_was_there(lab: DaemonLab) -> None:
    used = lab.reserve(computer_id=lab.lab.computers[0], remote_address=None)
    ready(lab, used)
    lab.end(used)
    lab.until_state(used, "complete")
    other, revision = an_image(lab.conn, "alpine3")
    changed = lab.reserve(computer_id=lab.lab.computers[0], image_id=other, remote_address=None)
    ready(lab, changed)
    assert lab.world.ask("SELECT revision_id FROM machine WHERE name = 'vcl-1'") == [(revision,)]
    lab.end(changed)
    lab.until_state(changed, "complete")
    lab.check_all_is_known()


def test_a_reload_leaves_the_computer_available_with_the_image(lab: DaemonLab) -> None:
    request = lab.reserve(state="reload", computer_id=lab.lab.computers[1])
    lab.until_state(request, "complete")
    assert lab.lying() == [("vcl-2", "disk"), ("vcl-2", "machine")]
    lab.check_all_is_known()


def test_a_cluster_is_ready_when_all_its_machines_are_and_in_use_when_its_user_is_in_one(lab: DaemonLab) -> None:
    script(lab.world, "boot", Kind.SLOW, seconds=2)
    request = lab.reserve(machines=3)
    waiting = "SELECT count(*) = 2 FROM reservation WHERE waiting_because = 'waiting for the other machines'"
    lab.until(lambda: lab.one(waiting), "two to wait for the third")
    assert lab.state(request) == "new"
    lab.until_state(request, "reserved")
    machines = computers_of(lab, request)
    assert len(machines) == 3
    opened = "SELECT count(*) = 3 FROM reservation WHERE request_id = %s AND granted_address IS NOT NULL"
    lab.until(lambda: lab.one(opened, request), "all to be open")
    lab.timing(reconnecttimeout=0.2)
    log_in(lab.world, machines[1], "alice", HOME)
    lab.until_state(request, "inuse")
    time.sleep(1)
    assert (lab.state(request), lab.one(opened, request)) == ("inuse", True)
    lab.end(request)
    lab.until_state(request, "complete")
    assert lab.ending(request) == "released"
    lab.check_nothing_is_left()


def test_a_cluster_of_which_one_machine_fails_is_given_up_whole(lab: DaemonLab) -> None:
    script(lab.world, "load", Kind.FAIL, error="refused", computer="vcl-2", times=0)
    script(lab.world, "boot", Kind.HANG, computer="vcl-3")
    request = lab.reserve(machines=3)
    lab.until(lambda: lab.state(request) == "failed" and not lab.lying(), "all of it to be undone")
    lab.until(lambda: lab.one("SELECT count(*) = 0 FROM reservation WHERE released_at IS NULL"), "all to be released")
    assert lab.one("SELECT fault FROM request_status WHERE id = %s", request).startswith("scripted fault")
    lab.check_nothing_is_left()


def test_a_cluster_whose_user_never_comes_is_taken_back_whole(lab: DaemonLab) -> None:
    lab.timing(initialconnecttimeout=0.6)
    request = lab.reserve(machines=3)
    lab.until_state(request, "complete")
    assert lab.ending(request) == "nologin"
    lab.check_nothing_is_left()


def test_a_cluster_that_is_deleted_in_mid_load_stops_everywhere(lab: DaemonLab) -> None:
    script(lab.world, "boot", Kind.HANG, times=0)
    request = lab.reserve(machines=3)
    lab.until(lambda: len(lab.lying()) == 6, "three machines to boot")
    lab.end(request)
    lab.until_state(request, "complete", seconds=5)
    lab.check_nothing_is_left()
