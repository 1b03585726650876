"""The main job, for real: from an inserted request to a user logged in on a virtual machine, and back."""

from __future__ import annotations

import random
import time
from ipaddress import ip_address

from fix_real_lab import RealLab


def gone(lab: RealLab) -> bool:
    """Nothing of the computer lies on the hypervisor, and nothing is left to be undone."""
    (outstanding,) = lab.conn.execute("SELECT count(*) FROM effect WHERE undone_at IS NULL").fetchall()[0]
    return not (lab.bench.domains(lab.computer) or outstanding)


def test_from_an_insert_to_a_user_logged_in_and_back(real_lab: RealLab) -> None:
    real_lab.node.start()
    request = real_lab.reserve()
    real_lab.until_open(request)
    asked = real_lab.ssh("id -un; hostname; sudo -n id -u")
    assert asked.stdout.split() == ["alice", real_lab.computer, "0"], asked.stderr
    other = str(ip_address(real_lab.home) + 1)
    assert real_lab.ssh("true", source=other).returncode != 0, "open for somebody else's address too"
    real_lab.end(request)
    real_lab.until(lambda: real_lab.status(request)[0] == "complete", "the machine taken back")
    assert gone(real_lab)
    assert real_lab.node.stop() == 0
    assert real_lab.node.defects() == []


def test_a_computer_that_holds_the_image_is_given_as_it_is(real_lab: RealLab) -> None:
    real_lab.node.start()
    real_lab.conn.execute(
        "INSERT INTO request (user_id, image_id, state) VALUES (user_named('alice'), image_named('small'), 'reload')"
    )
    done = "SELECT count(*) FROM request WHERE state = 'complete'"
    real_lab.until(lambda: real_lab.conn.execute(done).fetchall()[0][0], "the computer loaded")
    request = real_lab.reserve()
    real_lab.until_open(request)
    boots = (
        "SELECT count(*) FROM load_log l JOIN reservation r ON r.id = l.reservation_id "
        "WHERE request_id = %s AND step = 'bootstate'"
    )
    assert real_lab.conn.execute(boots, [request]).fetchall()[0][0] == 0
    assert real_lab.ssh("id -un").stdout.strip() == "alice"
    real_lab.end(request)
    real_lab.until(lambda: real_lab.status(request)[0] == "complete", "the machine taken back")
    assert gone(real_lab)


def test_kills_in_the_middle_of_a_real_load_lose_nothing_and_double_nothing(real_lab: RealLab) -> None:
    seed = random.randrange(1 << 32)
    moments = random.Random(seed)
    request = real_lab.reserve()
    for life in range(4):
        real_lab.node.start()
        time.sleep(moments.uniform(0.05, 0.6 if life % 2 else 3.0))
        real_lab.node.kill()
        assert len(real_lab.bench.domains(real_lab.computer)) <= 1, f"seed {seed}"
    real_lab.node.start()
    real_lab.until_open(request)
    assert real_lab.bench.domains(real_lab.computer) == [real_lab.computer], f"seed {seed}"
    assert real_lab.ssh("id -un").stdout.strip() == "alice", f"seed {seed}"
    real_lab.end(request)
    real_lab.until(lambda: real_lab.status(request)[0] == "complete", "the machine taken back")
    assert gone(real_lab), f"seed {seed}"
