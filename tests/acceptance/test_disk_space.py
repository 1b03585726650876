"""VM hosts whose disks are small: nothing is begun that would not fit, who waits is told, and people see it."""

from __future__ import annotations

import json
from typing import Any

from a_lab import an_image
from a_vcl import vcl_here
from fix_daemon import DaemonLab

from modules.provisioning.sim import Kind, fired, script

GB = 1_000_000_000
RARE = {"tick": 600, "lease": 60}
SMALL = {"image_bytes": GB, "disk_bytes": 3 * GB // 2}
"""One image fits, and not two."""


def said(lab: DaemonLab, *words: str) -> str:
    ran = vcl_here(words, VCL_DSN=lab.dsn)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def host(lab: DaemonLab) -> dict[str, Any]:
    (listed,) = json.loads(said(lab, "hosts", "--json"))
    return listed


def said_of(lab: DaemonLab, request: int) -> str:
    """Why it waits."""
    return lab.one("SELECT coalesce(waiting_because, '') FROM reservation WHERE request_id = %s", request)


def on_the_way(lab: DaemonLab) -> int:
    return lab.one("SELECT count(*) FROM vm_host_transfer")


def test_of_two_images_that_do_not_both_fit_one_is_brought_whichever_node_begins(dlab: DaemonLab) -> None:
    """Each node has one worker, so that they bring them at once; the second waits for the first, then is refused."""
    image, _ = an_image(dlab.conn, "alpine3")
    slow = SMALL | {"delays": {"retrieve_image": "1.5"}}
    for name in ("mn1", "mn2"):
        dlab.node(name, work={"workers": 1}, sim=slow).start()
    requests = [dlab.reserve(), dlab.reserve(image_id=image)]
    dlab.until(lambda: on_the_way(dlab) == 2, "both to be on their way")
    assert host(dlab)["coming"] == 2 * GB
    for request in requests:
        dlab.until_state(request, "inuse", "failed")
    assert sorted(dlab.state(request) for request in requests) == ["failed", "inuse"]
    waited = "waits for room on host-1: 954 MB of other%"
    assert dlab.one("SELECT count(*) FROM load_log WHERE info LIKE %s", waited) == 1
    assert "is full" in dlab.one("SELECT fault_said FROM request WHERE state = 'failed'")
    assert dlab.world.ask("SELECT count(*) FROM image WHERE host = 'host-1' AND whole") == [(1,)]
    assert on_the_way(dlab) == 0


def test_a_node_that_dies_while_it_brings_an_image_keeps_no_room(dlab: DaemonLab) -> None:
    image, _ = an_image(dlab.conn, "alpine3")
    dying = dlab.node("mn1", work={"lease": 3, "tick": 0.5}, sim=SMALL | {"delays": {"retrieve_image": "60"}}).start()
    first = dlab.reserve()
    dlab.until(lambda: on_the_way(dlab) == 1, "it to be on its way")
    dlab.end(first)
    dying.kill()
    dlab.node("mn2", sim=SMALL).start()
    second = dlab.reserve(image_id=image)
    dlab.until_state(second, "inuse")
    assert host(dlab)["coming"] == 0


def test_who_waits_for_room_is_told_so_and_served_when_there_is(dlab: DaemonLab) -> None:
    dlab.conn.execute("UPDATE vm_profile SET keep_free_mb = 1400")  # of 1430
    dlab.node(work={"measure_disks": 1}, sim=SMALL).start()
    dlab.until(lambda: host(dlab)["refused"], "the host to be seen full")
    table = said(dlab, "hosts")
    assert "1.4 GB of 1.4 GB free" in table
    assert " full " in table
    assert host(dlab)["refused"].endswith("sim.db:host-1 has 1430 MB free, and 1528 must be for another machine")
    request = dlab.reserve()
    explained = dlab.until(
        lambda: text if "has room for it" in (text := said(dlab, "explain", str(request))) else "",
        "the reason to be told",
    )
    assert f"{dlab.world.file}:host-1 of VM host host-1 is full (vcl hosts)" in " ".join(explained.split())
    assert dlab.state(request) == "new"
    dlab.conn.execute("UPDATE vm_profile SET keep_free_mb = 10")
    dlab.until_state(request, "inuse")
    assert host(dlab)["refused"] == ""


def test_a_machine_is_not_made_where_the_reserve_would_be_used(dlab: DaemonLab) -> None:
    """Nor is anything more sent there: what one load found is known to all, long before the next measurement."""
    dlab.node(work=RARE | {"measure_disks": 600}, sim=SMALL | {"image_bytes": 10_000_000}).start()
    dlab.until(lambda: host(dlab)["measured_at"], "the first measurement")
    dlab.conn.execute("UPDATE vm_profile SET keep_free_mb = 1400")
    request = dlab.reserve(computer_id=dlab.lab.computers[0])
    dlab.until_state(request, "failed")
    fault = dlab.one("SELECT fault_said FROM request WHERE id = %s", request)
    assert fault.endswith("1490000000 bytes are free, 134217728 are needed and 1468006400 stay free")
    assert dlab.lying() == []
    waiting = dlab.reserve()
    dlab.until(lambda: "has room for it" in said_of(dlab, waiting), "the next to wait")
    assert dlab.state(waiting) == "new"


def test_a_host_that_is_away_keeps_what_was_seen_last(dlab: DaemonLab) -> None:
    dlab.another_host("host-2", 1)
    fault = script(dlab.world, "disks", Kind.FAIL, error="unreachable", host="host-1", nth=2, times=0)
    dlab.node(work={"measure_disks": 1}, sim=SMALL).start()
    dlab.until(lambda: fired(dlab.world, fault) >= 2, "it to be away")
    one, other = json.loads(said(dlab, "hosts", "--json"))
    assert one["measured_at"] < other["measured_at"]
    assert one["masters_free"] == other["masters_free"] == SMALL["disk_bytes"]
