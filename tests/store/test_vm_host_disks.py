"""Room on VM hosts in the database: as measured, as spoken for, as those see it who give out computers."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from a_lab import Lab, a_lab, a_request, allocated, claim_all
from psycopg import sql

from vcl_provision.daemon.allocator import Allocator
from vcl_provision.model.faults import LeaseLost
from vcl_provision.model.reservation import Claim
from vcl_provision.store import allocation, disks, transfers
from vcl_provision.store.database import Connection, Database, listen
from vcl_provision.store.vm_hosts import vm_hosts

MB = 1 << 20


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


def measured(conn: Connection, host: int, *, masters: int = 900, machines: int = 900) -> None:
    """Free MiB of two disks that are full below 100."""
    common = {"host_id": host, "total": 1000 * MB, "least": 100 * MB}
    disks.put_measured(
        conn,
        [
            disks.Measured(holds="masters", path="/masters", free=masters * MB, **common),
            disks.Measured(holds="machines", path="/machines", free=machines * MB, **common),
        ],
    )


def because(conn: Connection, request: int) -> str | None:
    return conn.execute("SELECT waiting_because FROM reservation WHERE request_id = %s", [request]).fetchall()[0][0]


def computer_of(conn: Connection, request: int) -> int | None:
    return conn.execute("SELECT computer_id FROM reservation WHERE request_id = %s", [request]).fetchall()[0][0]


def test_a_host_tells_what_is_free_and_why_loads_are_refused(conn: Connection, lab: Lab) -> None:
    (host,) = disks.hosts(conn)
    assert (host.measured_at, host.masters_free, host.masters_path, host.refused) == (
        None,
        None,
        "/var/lib/vcl/datastore",
        "",
    )
    measured(conn, lab.host_id)
    (host,) = disks.hosts(conn)
    assert (host.masters_free, host.machines_total, host.refused) == (900 * MB, 1000 * MB, "")
    assert host.measured_at
    measured(conn, lab.host_id, masters=99)
    assert "only images that lie there already" in disks.hosts(conn)[0].refused
    measured(conn, lab.host_id, machines=99)
    assert disks.hosts(conn)[0].refused == "/machines has 99 MB free, and 100 must be for another machine"


def test_only_hosts_that_were_not_measured_lately_are_due(conn: Connection, lab: Lab) -> None:
    assert [host.id for host in vm_hosts(conn, not_measured_for=60)] == [lab.host_id]
    measured(conn, lab.host_id)
    assert vm_hosts(conn, not_measured_for=60) == []
    conn.execute("UPDATE vm_host_disk SET measured_at = measured_at - interval '61 s'")
    conn.execute("UPDATE vm_profile SET keep_free_mb = 2048")
    assert [host.profile.keep_free_mb for host in vm_hosts(conn, not_measured_for=60)] == [2048]
    assert vm_hosts(conn)


def test_a_host_that_is_gone_meanwhile_is_not_written_down(conn: Connection, lab: Lab) -> None:
    measured(conn, lab.host_id + 1)
    assert conn.execute("SELECT count(*) FROM vm_host_disk").fetchone() == (0,)


def test_who_waits_for_room_hears_why_and_is_served_when_there_is(
    conn: Connection, lab: Lab, database: Database
) -> None:
    measured(conn, lab.host_id, machines=99)
    request = a_request(conn, lab)
    Allocator(database=database).allocate()
    assert computer_of(conn, request) is None
    assert because(conn, request) == (
        "no computer that can run the image has room for it: /machines of VM host host-1 is full (vcl hosts)"
    )
    listener = listen(database.dsn, ["vcl_due"])
    measured(conn, lab.host_id, machines=101)
    assert [notice.payload for notice in listener.connection.notifies(timeout=5, stop_after=1)] == ["queue"]
    listener.close()
    Allocator(database=database).allocate()
    assert computer_of(conn, request) == lab.computers[0]


def test_a_full_host_gives_what_it_holds(conn: Connection, lab: Lab, database: Database) -> None:
    measured(conn, lab.host_id, machines=99)
    conn.execute(
        "UPDATE computer SET loaded_revision_id = %s, prepared = true WHERE id = %s",
        [lab.revision_id, lab.computers[2]],
    )
    first, second = a_request(conn, lab), a_request(conn, lab)
    Allocator(database=database).allocate()
    assert (computer_of(conn, first), computer_of(conn, second)) == (lab.computers[2], None)


def test_of_two_hosts_the_one_with_room_is_taken(conn: Connection, lab: Lab, database: Database) -> None:
    conn.execute(
        "INSERT INTO vm_host (name, address, vm_profile_id, module) VALUES ('host-2', 'h', %s, 'sim')", [lab.profile_id]
    )
    conn.execute("UPDATE computer SET vm_host_id = vm_host_id + 1 WHERE id = %s", [lab.computers[3]])
    measured(conn, lab.host_id, masters=99)
    request = a_request(conn, lab)
    Allocator(database=database).allocate()
    assert computer_of(conn, request) == lab.computers[3]


def test_a_full_disk_today_does_not_refuse_a_reservation_of_tomorrow(
    conn: Connection, lab: Lab, database: Database
) -> None:
    measured(conn, lab.host_id, machines=99)
    request = a_request(
        conn,
        lab,
        wait_for_computer=False,
        start_time=sql.SQL("vcl.now() + interval '1 day'"),
        end_time=sql.SQL("vcl.now() + interval '2 days'"),
    )
    assert [waiting.soon for waiting in allocation.in_queue(conn, 9)] == [False]
    Allocator(database=database).allocate()
    assert computer_of(conn, request) == lab.computers[0]


# What is on its way.


def claims(conn: Connection, lab: Lab, count: int) -> list[Claim]:
    for computer in lab.computers[:count]:
        allocated(conn, a_request(conn, lab), computer)
    return claim_all(conn)


def test_a_transfer_counts_for_those_after_it_until_it_ends(conn: Connection, lab: Lab) -> None:
    one, other, third = claims(conn, lab, 3)
    first = transfers.begin(conn, one, host_id=lab.host_id, size=5)
    second = transfers.begin(conn, other, host_id=lab.host_id, size=7)
    last = transfers.begin(conn, third, host_id=lab.host_id, size=1)
    assert [transfers.before(conn, number) for number in (first, second, last)] == [0, 5, 12]
    assert disks.hosts(conn)[0].coming == 13
    transfers.end(conn, first)
    assert [transfers.before(conn, number) for number in (second, last)] == [0, 7]


def test_another_hosts_transfers_do_not_count(conn: Connection, lab: Lab) -> None:
    one, other = claims(conn, lab, 2)
    (host,) = conn.execute(
        "INSERT INTO vm_host (name, address, vm_profile_id, module) VALUES ('b', 'b', %s, 'sim') RETURNING id",
        [lab.profile_id],
    ).fetchall()[0]
    transfers.begin(conn, one, host_id=lab.host_id, size=5)
    assert transfers.before(conn, transfers.begin(conn, other, host_id=host, size=5)) == 0


def test_what_died_keeps_no_room(conn: Connection, lab: Lab) -> None:
    """Its claim is taken back, as the reaper does; the next who begins clears what it left."""
    one, other = claims(conn, lab, 2)
    transfers.begin(conn, one, host_id=lab.host_id, size=5)
    number = transfers.begin(conn, other, host_id=lab.host_id, size=7)
    conn.execute(
        "UPDATE reservation SET claim_token = NULL, claimed_by = NULL, claimed_at = NULL, lease_until = NULL"
        " WHERE id = %s",
        [one.reservation_id],
    )
    assert transfers.before(conn, number) == 0
    transfers.begin(conn, other, host_id=lab.host_id, size=7)
    assert conn.execute("SELECT array_agg(bytes) FROM vm_host_transfer").fetchone() == ([7, 7],)


def test_who_lost_the_claim_begins_nothing(conn: Connection, lab: Lab) -> None:
    (claim, other) = claims(conn, lab, 2)
    with pytest.raises(LeaseLost):
        transfers.begin(conn, replace(claim, token=other.token), host_id=lab.host_id, size=5)


def test_the_later_of_two_sees_the_earlier_however_they_meet(conn: Connection, lab: Lab, dsn: str) -> None:
    """One that has its number and is not yet committed holds up the next, which would not see it."""
    one, other = claims(conn, lab, 2)
    seen: list[int] = []

    def begin_after() -> None:
        mine = listen(dsn, [])
        number = transfers.begin(mine.connection, other, host_id=lab.host_id, size=7)
        seen.append(transfers.before(mine.connection, number))
        mine.close()

    later = threading.Thread(target=begin_after)
    with conn.transaction():
        transfers.begin(conn, one, host_id=lab.host_id, size=5)
        later.start()
        later.join(0.3)
        assert seen == []
    later.join(10)
    assert seen == [5]
