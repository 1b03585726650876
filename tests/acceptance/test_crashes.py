"""Kill anything at any instant: each reservation is carried on, nothing is double, nothing is left behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fix_daemon import DaemonLab, Node, a_daemon_lab

from modules.provisioning.sim import Kind, doubles, fired, script

KILLS = 30
SLOW = {"boot": "uniform(0.3, 1.0)", "retrieve_image": "0.1", "guest": "uniform(0, 0.05)", "control_VM": "0.03"}
"""A load takes about a second, and something is being done at each moment of it."""


class Users:
    """So many reservations wanted at a time; each is given back when its user is in."""

    def __init__(self, lab: DaemonLab, at_once: int) -> None:
        self.lab = lab
        self.at_once = at_once
        self.requests: list[int] = []

    def go_on(self) -> None:
        for _ in range(self.at_once - self.open()):
            self.requests.append(self.lab.reserve())
        self.leave()

    def leave(self) -> None:
        self.lab.conn.execute("UPDATE request SET state = 'deleted' WHERE state = 'inuse'")

    def open(self) -> int:
        return self.lab.one("SELECT count(*) FROM request WHERE state NOT IN ('complete', 'failed')")

    def all_gone(self) -> bool:
        self.leave()
        return self.open() == 0


def pass_time(seconds: float, users: Users) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        users.go_on()
        time.sleep(0.03)


def test_kills_at_random_moments_lose_nothing_and_double_nothing(tmp_path: Path, dsn: str) -> None:
    with a_daemon_lab(tmp_path, dsn, computers=8) as dlab:
        kill_on(dlab)


def test_kills_while_reservations_leave_a_full_host_lose_nothing_and_double_nothing(tmp_path: Path, dsn: str) -> None:
    with a_daemon_lab(tmp_path, dsn, computers=4) as dlab:
        dlab.another_host("host-2", 8)
        with dlab.world.change() as change:
            change.do("INSERT INTO image VALUES ('host-1', 'of others', 'others', 2000000000, 1)")
        small = {"image_bytes": 10**9, "disk_bytes": 2 * 10**9, "delays": SLOW | {"disks": "uniform(0, 0.2)"}}
        kill_on(dlab, 12, meanwhile=lambda: believe_in_room(dlab), sim=small, work={"measure_disks": 600})
        assert dlab.one("SELECT count(*) FROM vm_host_refusal") >= 4
        moved = "SELECT count(*) FROM vm_host_refusal n JOIN reservation r ON r.id = n.reservation_id"
        assert dlab.one(f"{moved} JOIN computer c ON c.id = r.computer_id WHERE c.vm_host_id = n.vm_host_id") == 0


def believe_in_room(lab: DaemonLab) -> None:
    """As if each host had been measured before it filled up."""
    lab.conn.execute(
        "INSERT INTO vm_host_disk (vm_host_id, holds, path, total_bytes, free_bytes, least_bytes)"
        " SELECT h.id, holds, '', 1, 1, 0 FROM vm_host h, unnest('{masters,machines}'::text[]) AS holds"
        " ON CONFLICT (vm_host_id, holds) DO UPDATE SET free_bytes = excluded.free_bytes, least_bytes = 0"
    )


def kill_on(
    dlab: DaemonLab,
    kills: int = KILLS,
    *,
    meanwhile: Callable[[], None] = lambda: None,
    sim: Mapping[str, Any] | None = None,
    **tables: Any,
) -> None:
    seed = int(os.environ.get("VCL_TEST_SEED") or Random().randrange(10**6))
    sys.stdout.write(f"VCL_TEST_SEED={seed}\n")
    random, users = Random(seed), Users(dlab, at_once=8)
    nodes = [dlab.node(name, sim=sim or {"delays": SLOW}, **tables) for name in ("mn1", "mn2", "mn3")]
    interrupted = 0
    for _ in range(kills):
        meanwhile()
        begin_some(nodes, random)
        pass_time(random.uniform(0.0, 0.6), users)
        while not (busy := [node for node in nodes if node.ready and held_by(dlab, node)]):
            begin_some(nodes, random)
            pass_time(0.05, users)
        victim = random.choice(busy)
        victim.kill()
        interrupted += held_by(dlab, victim) > 0
        assert doubles(dlab.world) == []
    for node in nodes:
        if not node.lives:
            node.begin()
    dlab.until(users.all_gone, "all carried on to their end", 60)
    endings = dlab.conn.execute("SELECT ending, count(*) FROM accounting_log GROUP BY 1").fetchall()
    assert endings == [("released", len(users.requests))]
    dlab.check_nothing_is_left()
    sys.stdout.write(f"{interrupted} of {kills} kills met work in hand; {len(users.requests)} reservations\n")
    assert interrupted >= kills // 2, "too few of the kills met work in hand: this run shows little"


def begin_some(nodes: list[Node], random: Random) -> None:
    """Of the dead ones; now and then one stays dead, so that another takes over what it held when its lease ends."""
    for node in nodes:
        if not node.lives and random.random() < 0.8:
            node.begin()


def held_by(lab: DaemonLab, node: Node) -> int:
    """Reservations that it had in hand when it died."""
    return lab.one(
        "SELECT count(*) FROM reservation r JOIN management_node n ON n.id = r.claimed_by WHERE n.name = %s", node.name
    )


@pytest.fixture(scope="module")
def phoenix(shared: DaemonLab) -> Node:
    """One node for all kills at a call: each begins with the life that the one before left."""
    return shared.node("phoenix")


CALLS = (
    "node_status",
    "does_image_exist",
    "retrieve_image",
    "load",
    "boot",
    "guest.connect",
    "guest.post_load",
    "guest.add_user",
    "guest.open",
    "guest.is_connected",
    "guest.close",
    "control_VM",
)


@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_this_call_is_carried_on_by_the_next_life(shared: DaemonLab, phoenix: Node, call: str) -> None:
    if not phoenix.lives:
        phoenix.begin()
    if call in {"node_status", "control_VM"}:
        leave_a_machine(shared, tainted=call == "control_VM")
    with shared.world.change() as change:
        change.do("DELETE FROM image")  # to be fetched again
    fault = script(shared.world, call, Kind.KILL)
    request = shared.reserve(computer_id=shared.lab.computers[0])
    while shared.state(request) != "complete":
        if not phoenix.lives:
            phoenix.begin()
        shared.conn.execute("UPDATE request SET state = 'deleted' WHERE state = 'inuse'")
        time.sleep(0.02)
    assert fired(shared.world, fault) == 1
    assert shared.ending(request) == "released"
    shared.check_nothing_is_left()


def leave_a_machine(lab: DaemonLab, *, tainted: bool) -> None:
    """On the first computer, loaded; nobody was in, or it looks so."""
    request = lab.reserve(computer_id=lab.lab.computers[0], remote_address=None)
    lab.until_state(request, "reserved")
    lab.end(request)
    lab.until_state(request, "complete")
    assert lab.lying() != []
    lab.conn.execute("UPDATE computer SET tainted = %s WHERE id = %s", [tainted, lab.lab.computers[0]])


def test_another_node_takes_over_when_the_lease_of_a_dead_one_ends(dlab: DaemonLab) -> None:
    first = dlab.node("mn1", sim={"delays": {"boot": "60"}}).start()
    request = dlab.reserve()
    dlab.until_step(request, "bootstate")
    second = dlab.node("mn2").start()
    first.kill()
    dlab.until_state(request, "inuse")
    assert second.said("vcld.started")[0]["taken_up_again"] == 0
    assert [kind for _, kind in dlab.lying()] == ["disk", "machine"]
    dlab.end(request)
    dlab.until_state(request, "complete")
    dlab.check_nothing_is_left()


ZOMBIES = ["control_VM", "load", "guest.post_load", "guest.add_user", "guest.open"]


@pytest.mark.parametrize("call", ZOMBIES)
def test_one_that_hung_longer_than_its_lease_touches_nothing_when_it_wakes(dlab: DaemonLab, call: str) -> None:
    """It hangs while the call is on its way, and wakes when another node has given the machine to its user."""
    zombie = dlab.node("mn1").start()
    if call == "control_VM":
        leave_a_machine(dlab, tainted=True)
    fault = script(dlab.world, call, Kind.SLOW, seconds=1.5)
    request = dlab.reserve(computer_id=dlab.lab.computers[0])
    dlab.until(lambda: fired(dlab.world, fault), f"{call} on its way")
    zombie.hang()
    dlab.node("mn2").start()
    dlab.until_state(request, "inuse")
    before = (dlab.lying(), what_is_known(dlab), len(dlab.world.facts()))
    zombie.go_on()
    dlab.until(lambda: zombie.said("lease.lost"), "the zombie to notice")
    time.sleep(0.5)
    assert (dlab.lying(), what_is_known(dlab), len(dlab.world.facts())) == before
    assert doubles(dlab.world) == []
    dlab.end(request)
    dlab.until_state(request, "complete")
    dlab.check_nothing_is_left()


def what_is_known(lab: DaemonLab) -> object:
    """The computer and the outstanding effects, as they are recorded."""
    computers = lab.conn.execute("SELECT * FROM computer ORDER BY id").fetchall()
    return computers, lab.conn.execute("SELECT * FROM effect WHERE undone_at IS NULL ORDER BY id").fetchall()
