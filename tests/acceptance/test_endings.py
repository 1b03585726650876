"""How a reservation goes on and ends by time and by its user's doing: VCL's timings, in short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fix_daemon import HOME, DaemonLab
from psycopg import sql

from modules.provisioning.sim import Fact, log_in, log_out


@pytest.fixture
def lab(shared: DaemonLab) -> Iterator[DaemonLab]:
    """One daemon for all of them, whose users come only when they are told to. Its ticks are rare."""
    if not shared.nodes:
        shared.node(work={"tick": 600, "lease": 60}, sim={"users_come": ""}).start()
    shared.timing(connect_poll=0.1, inuse_check=0.1)
    yield shared
    shared.sweep()


def computer_of(lab: DaemonLab, request: int) -> str:
    return lab.one("SELECT computer FROM request_status WHERE id = %s", request)


def in_use(lab: DaemonLab, **columns: object) -> int:
    """A request whose user has come."""
    request = lab.reserve(**columns)
    come(lab, request)
    lab.until_state(request, "inuse")
    return request


def come(lab: DaemonLab, request: int) -> None:
    open_ = "SELECT granted_address IS NOT NULL FROM reservation WHERE request_id = %s"
    lab.until(lambda: lab.one(open_, request), "the machine to be open")
    log_in(lab.world, computer_of(lab, request), "alice", HOME)


def told(lab: DaemonLab) -> list[Fact]:
    return [fact for fact in lab.world.facts() if fact.what == "notified"]


def test_one_that_nobody_acknowledges_is_taken_back(lab: DaemonLab) -> None:
    lab.timing(acknowledgetimeout=0.5)
    request = lab.reserve(remote_address=None)
    lab.until_state(request, "complete")
    assert lab.ending(request) == "noack"
    assert [fact.what for fact in lab.world.facts() if fact.what in {"user_added", "opened"}] == ["user_added"]
    lab.check_all_is_known()


def test_one_that_is_acknowledged_in_time_is_opened_for_that_address_only(lab: DaemonLab) -> None:
    request = lab.reserve(remote_address=None)
    lab.until_state(request, "reserved")
    lab.conn.execute("UPDATE request SET remote_address = '198.51.100.9' WHERE id = %s", [request])
    question = "SELECT connect FROM request_status WHERE id = %s"
    assert lab.until(lambda: lab.one(question, request), "the way in").startswith("ssh alice@10.20.0.")
    with pytest.raises(ConnectionRefusedError, match="firewall is closed"):
        log_in(lab.world, computer_of(lab, request), "alice", HOME)
    log_in(lab.world, computer_of(lab, request), "alice", "198.51.100.9")
    lab.until_state(request, "inuse")


def test_a_user_who_moves_is_let_in_from_the_new_address_and_no_more_from_the_old(lab: DaemonLab) -> None:
    request = in_use(lab)
    lab.conn.execute("UPDATE request SET remote_address = '198.51.100.9' WHERE id = %s", [request])
    opened = "SELECT host(granted_address) = '198.51.100.9' FROM reservation WHERE request_id = %s"
    lab.until(lambda: lab.one(opened, request), "the machine to be open for the new address")
    with pytest.raises(ConnectionRefusedError):
        log_in(lab.world, computer_of(lab, request), "alice", HOME)
    log_in(lab.world, computer_of(lab, request), "alice", "198.51.100.9")


def test_one_whose_user_never_comes_is_taken_back(lab: DaemonLab) -> None:
    lab.timing(initialconnecttimeout=0.5)
    request = lab.reserve()
    lab.until_state(request, "complete")
    assert lab.ending(request) == "nologin"
    lab.check_nothing_is_left()


def test_an_image_may_say_that_nobody_needs_to_come(lab: DaemonLab) -> None:
    lab.timing(initialconnecttimeout=0.2, reconnecttimeout=0.2)
    lab.conn.execute("UPDATE image SET check_user = false")
    try:
        request = lab.reserve(end_time=sql.SQL("now() + interval '1.5 s'"))
        lab.until_state(request, "complete")
    finally:
        lab.conn.execute("UPDATE image SET check_user = true")
    assert lab.ending(request) == "EOR"


def test_one_whose_user_leaves_is_taken_back_after_a_while(lab: DaemonLab) -> None:
    lab.timing(reconnecttimeout=0.7)
    request = in_use(lab)
    log_out(lab.world, computer_of(lab, request), "alice")
    lab.until_state(request, "complete")
    assert lab.ending(request) == "timeout"
    lab.check_nothing_is_left()


def test_a_user_who_comes_back_in_time_keeps_the_machine(lab: DaemonLab) -> None:
    lab.timing(reconnecttimeout=3)
    request = in_use(lab)
    log_out(lab.world, computer_of(lab, request), "alice")
    doing = "SELECT doing FROM request_status WHERE id = %s"
    lab.until(lambda: "away" in (lab.one(doing, request) or ""), "the user to be missed")
    log_in(lab.world, computer_of(lab, request), "alice", HOME)
    lab.until(lambda: lab.one(doing, request) == "in use", "the user to be seen again")
    assert lab.state(request) == "inuse"


def test_the_user_is_told_twice_that_the_end_comes_and_then_it_comes(lab: DaemonLab) -> None:
    lab.timing(end_notice_first=1.4, end_notice_second=0.7)
    request = in_use(lab, end_time=sql.SQL("now() + interval '2.5 s'"))
    lab.until_state(request, "complete")
    assert lab.ending(request) == "EOR"
    assert ["reservation ends in 1 min" in fact.detail for fact in told(lab)] == [True, True]
    lab.check_nothing_is_left()


def test_an_extension_takes_the_notices_back_and_they_come_again(lab: DaemonLab) -> None:
    lab.timing(end_notice_first=3600, end_notice_second=1)
    request = in_use(lab, end_time=sql.SQL("now() + interval '30 min'"))
    lab.until(lambda: len(told(lab)) == 1, "the first notice")
    lab.conn.execute("UPDATE request SET end_time = now() + interval '2 hours' WHERE id = %s", [request])
    sent = "SELECT notices_sent FROM reservation WHERE request_id = %s"
    lab.until(lambda: lab.one(sent, request) == 0, "the notice to be taken back")
    lab.conn.execute("UPDATE request SET end_time = now() + interval '30 min' WHERE id = %s", [request])
    lab.until(lambda: len(told(lab)) == 2, "the first notice again")


def test_an_end_that_is_moved_near_comes_at_once(lab: DaemonLab) -> None:
    request = in_use(lab)
    lab.conn.execute("UPDATE request SET end_time = now() + interval '0.3 s' WHERE id = %s", [request])
    lab.until_state(request, "complete", seconds=5)
    assert lab.ending(request) == "EOR"


def test_a_future_one_has_its_computer_at_once_and_starts_on_time(lab: DaemonLab) -> None:
    request = lab.reserve(start_time=sql.SQL("now() + interval '1.5 s'"), remote_address=None)
    lab.until(lambda: computer_of(lab, request), "a computer")
    assert lab.one("SELECT doing FROM request_status WHERE id = %s", request) == "it starts later"
    assert lab.world.facts() == []
    lab.until_state(request, "reserved", seconds=10)
    lab.until_step(request, "statuscheck")
    late = "SELECT min(l.at) >= min(q.start_time) FROM load_log l JOIN reservation r ON r.id = l.reservation_id"
    late += " JOIN request q ON q.id = r.request_id WHERE q.id = %s"
    assert lab.one(late, request) is True


def test_the_next_user_of_a_computer_waits_until_the_last_one_is_out(lab: DaemonLab) -> None:
    """Back to back on one computer: the second one starts when the first is reclaimed, on a machine of its own."""
    first = in_use(lab, computer_id=lab.lab.computers[0], end_time=sql.SQL("date_trunc('second', now()) + '3 s'"))
    end = lab.one("SELECT end_time FROM request WHERE id = %s", first)
    second = lab.reserve(computer_id=lab.lab.computers[0], start_time=end, remote_address=None)
    lab.until_state(second, "reserved")
    assert lab.state(first) == "complete"
    assert len({fact.instance for fact in lab.world.facts() if fact.what == "started"}) == 2
