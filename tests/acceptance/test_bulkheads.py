"""One host that hangs or is away costs its own reservations only; a computer is blamed on evidence."""

from __future__ import annotations

from a_lab import an_image
from fix_daemon import DaemonLab, Node

from modules.provisioning.sim import Kind, fired, heal, script

RARE = {"tick": 600, "lease": 60}
"""Nothing is owed to a tick."""


def on_host(lab: DaemonLab, host: str) -> int:
    """Reservations at work there."""
    return lab.one(
        "SELECT count(*) FROM reservation r JOIN computer c ON c.id = r.computer_id"
        " JOIN vm_host h ON h.id = c.vm_host_id WHERE r.claim_token IS NOT NULL AND h.name = %s",
        host,
    )


def test_no_more_are_at_work_on_a_host_than_its_limit_and_the_next_follows_at_once(dlab: DaemonLab) -> None:
    dlab.node(work=RARE | {"per_host": 1}, sim={"delays": {"boot": "0.3"}}).start()
    requests = [dlab.reserve(remote_address=None) for _ in range(4)]
    seen: set[int] = set()

    def all_ready() -> bool:
        seen.add(on_host(dlab, "host-1"))
        return all(dlab.state(request) == "reserved" for request in requests)

    dlab.until(all_ready, "one after the other to be loaded", 15)
    assert max(seen) == 1


def test_a_host_that_hangs_keeps_its_own_reservations_only(dlab: DaemonLab) -> None:
    hung = dlab.another_host("host-2", 4)
    dlab.node(work=RARE | {"workers": 4, "per_host": 2}).start()
    fault = script(dlab.world, "*", Kind.HANG, host="host-2", times=0)
    stuck = [dlab.reserve(computer_id=computer) for computer in hung]
    dlab.until(lambda: fired(dlab.world, fault) == 2, "two of them to hang")
    for _ in range(2):
        request = dlab.reserve(computer_id=dlab.lab.computers[0])
        dlab.until_state(request, "inuse", seconds=5)
        dlab.end(request)
        dlab.until_state(request, "complete", seconds=5)
    assert (on_host(dlab, "host-2"), fired(dlab.world, fault)) == (2, 2)
    heal(dlab.world)
    dlab.end(*stuck)
    for request in stuck:
        dlab.until_state(request, "complete")
    dlab.check_nothing_is_left()


def test_a_host_that_is_away_is_left_alone_for_a_while_and_tried_again(dlab: DaemonLab) -> None:
    away = dlab.another_host("host-2", 4)
    dlab.node(work=RARE, breaker={"failures": 3, "cooldown": 2}).start()
    fault = script(dlab.world, "*", Kind.FAIL, error="unreachable", host="host-2", times=0)
    waiting = [dlab.reserve(computer_id=computer) for computer in away]
    dlab.until(lambda: fired(dlab.world, fault) >= 3, "the host to be found away")
    dlab.until(lambda: on_host(dlab, "host-2") == 0, "the host to be left alone")
    met = fired(dlab.world, fault)
    request = dlab.reserve(computer_id=dlab.lab.computers[0])
    dlab.until_state(request, "inuse", seconds=5)
    assert fired(dlab.world, fault) == met
    assert {dlab.state(one) for one in waiting} == {"new"}
    dlab.until(lambda: fired(dlab.world, fault) > met, "one of them to try after the cool-down", 10)
    heal(dlab.world)
    for one in waiting:
        dlab.until_state(one, "inuse")
    dlab.end(request, *waiting)
    for one in (request, *waiting):
        dlab.until_state(one, "complete")
    assert dlab.one("SELECT count(*) FROM accounting_log WHERE computer_blamed") == 0
    dlab.check_nothing_is_left()


def test_two_failures_with_different_images_put_a_computer_out_of_service(dlab: DaemonLab) -> None:
    dlab.node(work=RARE).start()
    other, _ = an_image(dlab.conn, "alpine3")
    script(dlab.world, "load", Kind.FAIL, computer="vcl-1", times=0)
    for image in (dlab.lab.image_id, dlab.lab.image_id, other):
        assert computer_state(dlab, 0) == "available"
        fail(dlab, image)
    assert computer_state(dlab, 0) == "failed"
    request = dlab.reserve()
    dlab.until_state(request, "inuse")
    assert dlab.one("SELECT computer FROM request_status WHERE id = %s", request) == "vcl-2"
    assert dlab.lying() == [("vcl-2", "disk"), ("vcl-2", "machine")]
    dlab.conn.execute("UPDATE computer SET state = 'available' WHERE name = 'vcl-1'")
    heal(dlab.world)
    dlab.until_state(dlab.reserve(computer_id=dlab.lab.computers[0]), "inuse")


def test_an_image_that_is_not_there_is_not_the_computers_fault(dlab: DaemonLab) -> None:
    node: Node = dlab.node(work=RARE, sim={"absent": ["debian12", "alpine3"]}).start()
    other, _ = an_image(dlab.conn, "alpine3")
    for image in (dlab.lab.image_id, other):
        fail(dlab, image)
    assert computer_state(dlab, 0) == "available"
    assert dlab.one("SELECT fault FROM request_status WHERE id = 1") == "the repository holds no image debian12-v0"
    assert node.lives


def fail(lab: DaemonLab, image: int) -> None:
    request = lab.reserve(computer_id=lab.lab.computers[0], image_id=image)
    lab.until_state(request, "failed")
    released = "SELECT released_at IS NOT NULL FROM reservation WHERE request_id = %s"
    lab.until(lambda: lab.one(released, request), "what was done to be undone")


def computer_state(lab: DaemonLab, number: int) -> str:
    return lab.one("SELECT state FROM computer WHERE id = %s", lab.lab.computers[number])
