"""A VM host that fills up between being measured and being loaded costs nobody their reservation."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from a_lab import an_image
from a_vcl import vcl_here
from fix_daemon import DaemonLab, a_daemon_lab

from modules.provisioning.sim import Kind, fired, script

GB = 1_000_000_000
SMALL = {"image_bytes": GB, "disk_bytes": 3 * GB // 2}
"""One image fits, and not two."""
ONCE = {"measure_disks": 600}
"""Only at the start of a node, and when a load says that a host is full."""


@pytest.fixture
def two(tmp_path: Path, dsn: str) -> Generator[DaemonLab]:
    """One computer on host-1, which is the first to be given; two on host-2."""
    with a_daemon_lab(tmp_path, dsn, computers=1) as made:
        made.another_host("host-2", 2)
        yield made


def measured(lab: DaemonLab, hosts: int = 2) -> None:
    lab.until(lambda: lab.one("SELECT count(DISTINCT vm_host_id) FROM vm_host_disk") == hosts, "all to be measured")


def fill(lab: DaemonLab, host: str) -> None:
    """Somebody else's image takes its room."""
    with lab.world.change() as change:
        change.do("INSERT INTO image VALUES (?, 'of others', 'others', ?, 1)", host, SMALL["disk_bytes"] - GB // 20)


def said(lab: DaemonLab, *words: str) -> str:
    ran = vcl_here(words, VCL_DSN=lab.dsn)
    assert ran.returncode == 0, ran.stderr
    return " ".join(ran.stdout.split())


def full(lab: DaemonLab) -> list[str]:
    """Hosts on which nothing more is loaded."""
    return [host["name"] for host in json.loads(said(lab, "hosts", "--json")) if host["refused"]]


def status(lab: DaemonLab, request: int) -> tuple[Any, ...]:
    question = "SELECT state, computer, moved FROM request_status WHERE id = %s"
    return lab.conn.execute(question, [request]).fetchall()[0]


MOVED = "host-1 had no room, moved to host-2-1 on host-2"


def test_it_is_moved_to_another_host_and_people_read_so(two: DaemonLab) -> None:
    two.node(work=ONCE, sim=SMALL).start()
    measured(two)
    fill(two, "host-1")
    request = two.reserve()
    two.until_state(request, "inuse")
    assert status(two, request) == ("inuse", "host-2-1", MOVED)
    assert two.one("SELECT state FROM computer WHERE name = 'vcl-1'") == "available"
    assert two.lying() == [("host-2-1", "disk"), ("host-2-1", "machine")]
    assert full(two) == ["host-1"]
    for words in ("show", "explain"):
        assert MOVED in said(two, words, str(request))
    assert "moving to another VM host: host-1 had no room" in said(two, "explain", str(request))
    log = said(two, "log", str(request))
    assert "host-1 had no room for it: " in log
    assert "moved from vcl-1 on host-1 to host-2-1 on host-2" in log
    two.end(request)
    two.until_state(request, "complete")
    assert two.ending(request) == "released"
    assert two.one("SELECT count(*) FROM accounting_log WHERE computer_blamed") == 0
    two.check_nothing_is_left()


def test_what_lay_on_its_computer_goes_with_the_load_that_found_no_room(two: DaemonLab) -> None:
    """A machine kept for the next who wants its image is removed before another is made, as by any load."""
    two.node(work=ONCE, sim=SMALL).start()
    measured(two)
    kept = two.reserve(remote_address=None)
    two.until_state(kept, "reserved")
    two.end(kept)
    two.until_state(kept, "complete")
    assert two.lying() == [("vcl-1", "disk"), ("vcl-1", "machine")]
    image, _ = an_image(two.conn, "alpine3")
    two.conn.execute("UPDATE computer SET state = 'maintenance' WHERE vm_host_id <> %s", [two.lab.host_id])
    fault = script(two.world, "does_image_exist", Kind.SLOW, seconds=1, host="host-1")
    request = two.reserve(image_id=image)
    two.until(lambda: fired(two.world, fault), "it to be loaded on host-1")
    two.conn.execute("UPDATE computer SET state = 'available' WHERE vm_host_id <> %s", [two.lab.host_id])
    two.until_state(request, "inuse")
    assert status(two, request)[1:] == ("host-2-1", MOVED)
    assert two.lying() == [("host-2-1", "disk"), ("host-2-1", "machine")]


def test_a_kill_between_undoing_and_moving_is_carried_on(two: DaemonLab) -> None:
    """The full host is measured just before the reservation leaves it: there the daemon dies."""
    node = two.node(work=ONCE, sim=SMALL).start()
    measured(two)
    fill(two, "host-1")
    fault = script(two.world, "disks", Kind.KILL, host="host-1")
    request = two.reserve()
    node.ended()
    assert (fired(two.world, fault), two.state(request)) == (1, "new")
    assert two.one("SELECT c.name FROM reservation r JOIN computer c ON c.id = r.computer_id WHERE occupies") == "vcl-1"
    node.start()
    two.until_state(request, "inuse")
    assert status(two, request) == ("inuse", "host-2-1", MOVED)
    two.end(request)
    two.until_state(request, "complete")
    two.check_nothing_is_left()


def test_of_a_cluster_only_the_machine_concerned_moves(two: DaemonLab) -> None:
    two.node(work=ONCE, sim=SMALL).start()
    measured(two)
    fill(two, "host-1")
    request = two.reserve(machines=2)
    two.until_state(request, "inuse")
    assert status(two, request)[2] == "host-1 had no room, moved to host-2-2 on host-2"
    assert two.one("SELECT count(*) FROM vm_host_refusal") == 1
    two.end(request)
    two.until_state(request, "complete")
    two.check_nothing_is_left()


def test_when_every_host_is_full_each_is_tried_once_and_the_last_ones_reason_is_told(two: DaemonLab) -> None:
    node = two.node(work=ONCE, sim=SMALL).start()
    measured(two)
    fill(two, "host-1")
    fill(two, "host-2")
    request = two.reserve()
    two.until_state(request, "failed")
    assert f"{two.world.file}:host-2 is full" in two.one("SELECT fault FROM request_status WHERE id = %s", request)
    assert [line["because"].split(" is full")[0] for line in node.said("turn.without_room")] == [
        f"{two.world.file}:host-{n}" for n in (1, 2)
    ]
    two.until(lambda: two.one("SELECT count(*) = 0 FROM reservation WHERE released_at IS NULL"), "it to be over")
    two.check_nothing_is_left()


def test_who_waits_for_a_computer_elsewhere_gets_it(two: DaemonLab) -> None:
    two.node(work=ONCE, sim=SMALL).start()
    measured(two)
    others = [
        two.reserve(computer_id=two.one("SELECT id FROM computer WHERE name = %s", f"host-2-{n}")) for n in (1, 2)
    ]
    for other in others:
        two.until_state(other, "inuse")
    fill(two, "host-1")
    request = two.reserve()
    because = "host-1 had no room for it; elsewhere all 2 computers that can run the image are taken"
    two.until(lambda: because in said(two, "explain", str(request)), "it to wait")
    two.end(others[1])
    two.until_state(request, "inuse")
    assert status(two, request)[1] == "host-2-2"
