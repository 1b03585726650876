"""What people ask through the command line: requests as they make and follow them, listings, what a lab consists of."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from a_lab import KEY, RULES, Lab, a_lab, a_request, allocated, an_image, claim_all, claimed, occupied

from vcl_provision.model.lab import VmProfile
from vcl_provision.model.states import Event
from vcl_provision.store import catalogue, journal, listings, outcomes, requests
from vcl_provision.store.database import Connection
from vcl_provision.workflow.outcome import NOTHING


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


def reserve(conn: Connection, **given: Any) -> int:
    usual: dict[str, Any] = {"user": "alice", "image": "debian12"}
    return requests.add_request(conn, requests.Wanted(**usual | given))


def test_a_request_is_made_by_names_with_a_length_from_its_start(conn: Connection, lab: Lab) -> None:
    start = requests.moment(conn) + timedelta(days=1)
    made = reserve(conn, computer="vcl-2", start=start, lasting=timedelta(hours=2))
    status = requests.status_of(conn, made)
    assert status
    assert (status.user, status.image, status.computer, status.state) == ("alice", "debian12", "vcl-2", "new")
    assert (status.start_time, status.end_time) == (start, start + timedelta(hours=2))
    assert status.doing == "it starts later"


def test_a_request_without_times_gets_the_defaults(conn: Connection, lab: Lab) -> None:
    made = reserve(conn)
    status = requests.status_of(conn, made)
    assert status
    assert status.end_time - status.start_time == timedelta(hours=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "nobody"},
        {"image": "none"},
        {"computer": "none"},
        {"user": "'; DROP TABLE request; --"},
        {"image": "a" * 200},
    ],
)
def test_a_request_with_a_wrong_name_is_refused_with_a_hint(conn: Connection, lab: Lab, wrong: dict[str, str]) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="there is no") as caught:
        reserve(conn, **wrong)
    assert caught.value.diag.message_hint


def test_acknowledge_extend_and_end_say_whether_there_was_such_a_request(conn: Connection, lab: Lab) -> None:
    made = reserve(conn)
    before = requests.status_of(conn, made)
    assert before
    assert requests.acknowledge(conn, made, "192.0.2.7")
    assert requests.extend(conn, made, by=timedelta(hours=1)) == before.end_time + timedelta(hours=1)
    assert requests.extend(conn, made, until=before.end_time) == before.end_time
    assert requests.end(conn, made) == "complete"
    assert not requests.acknowledge(conn, 999, "192.0.2.7")
    assert requests.extend(conn, 999, by=timedelta(hours=1)) is None
    assert requests.end(conn, 999) is None


@pytest.mark.parametrize("address", ["", "nowhere", "192.0.2.0/24", "1.2.3", "'; --"])
def test_an_address_that_is_none_is_refused(conn: Connection, lab: Lab, address: str) -> None:
    made = reserve(conn)
    with pytest.raises(psycopg.Error):
        requests.acknowledge(conn, made, address)


def test_what_is_live_and_what_was_last(conn: Connection, lab: Lab) -> None:
    made = [a_request(conn, lab) for _ in range(3)]
    requests.end(conn, made[1])
    assert [status.id for status in requests.live(conn)] == [made[0], made[2]]
    assert [status.id for status in requests.latest(conn, 2)] == made[1:]


def test_each_machine_of_a_request_says_who_works_on_it_and_until_when(conn: Connection, lab: Lab) -> None:
    made = a_request(conn, lab, machines=2)
    allocated(conn, made, *lab.computers[:2])
    waiting = requests.machines_of(conn, made)
    assert [(machine.computer, machine.address) for machine in waiting] == [
        ("vcl-1", "10.20.0.10"),
        ("vcl-2", "10.20.0.11"),
    ]
    assert all(isinstance(machine.due_at, datetime) for machine in waiting)
    claim_all(conn)
    assert [(machine.worked_on_by, machine.due_at) for machine in requests.machines_of(conn, made)] == [
        ("node-1", None)
    ] * 2


def test_how_long_a_guest_boots_is_known_from_the_last_boots(conn: Connection, lab: Lab) -> None:
    assert requests.boot_seconds(conn, "debian12") == 600
    claim = claimed(conn, lab)
    moment = requests.moment(conn)
    for step, seconds in (("bootstate", 0), ("machinebooted", 4)):
        line = journal.Line(
            kind="step",
            said=step,
            request_id=claim.request_id,
            reservation_id=claim.reservation_id,
            computer_id=lab.computers[0],
            step=step,
            at=moment + timedelta(seconds=seconds),
        )
        journal.write(conn, [line])
    assert requests.boot_seconds(conn, "debian12") == pytest.approx(4)


def test_computers_say_who_has_them_and_what_they_hold(conn: Connection, lab: Lab) -> None:
    claim = occupied(conn, claimed(conn, lab))
    conn.execute("UPDATE computer SET loaded_revision_id = %s WHERE name = 'vcl-2'", [lab.revision_id])
    first, second, *_ = listings.computers(conn)
    assert (first.name, first.state, first.request_id, first.user) == ("vcl-1", "reloading", claim.request_id, "alice")
    assert (second.name, second.state, second.holds, second.request_id) == ("vcl-2", "available", "debian12-v0", None)


def test_images_say_how_many_computers_can_run_them_and_how_many_do(conn: Connection, lab: Lab) -> None:
    an_image(conn, "huge", min_ram_mb=999_999)
    claimed(conn, lab)
    assert [(image.name, image.computers, image.reserved) for image in listings.images(conn)] == [
        ("debian12", 4, 1),
        ("huge", 0, 0),
    ]


def test_users_say_their_keys_and_how_many_requests_they_have(conn: Connection, lab: Lab) -> None:
    a_request(conn, lab)
    ended = a_request(conn, lab)
    requests.end(conn, ended)
    assert [(user.name, list(user.keys), user.live_requests) for user in listings.users(conn)] == [("alice", [KEY], 1)]


def test_a_user_is_added_once_and_keys_are_added(conn: Connection, lab: Lab) -> None:
    first = catalogue.put_user(conn, "bob", keys=[])
    assert catalogue.put_user(conn, "bob", keys=[KEY, KEY]) == first
    assert [list(user.keys) for user in listings.users(conn) if user.name == "bob"] == [[KEY]]


@pytest.mark.parametrize("name", ["", "Bob", "a" * 200, "'; DROP TABLE vcl_user; --", "bob$(id)", "-bob", "b b"])
def test_a_user_name_that_no_system_takes_is_refused(conn: Connection, lab: Lab, name: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="user_name_is_one_that_a_system_takes"):
        catalogue.put_user(conn, name, keys=[])


def test_a_lab_put_in_twice_is_the_same_lab(conn: Connection) -> None:
    for _ in range(2):
        profile = VmProfile(name="small", repository_path="/r", datastore_path="/d", vm_path="/v")
        catalogue.put_host(conn, name="here", address="here", module="sim", profile=profile, install_types=["sim"])
        catalogue.put_computer(
            conn,
            catalogue.NewComputer(
                name="vcl-1", host="here", module="sim", private_address="10.9.0.1", mac="52:54:00:00:00:01"
            ),
        )
        image = catalogue.NewImage(
            name="tiny", revision=1, revision_name="tiny-v1", os="tiny", os_module="sim", install_type="sim"
        )
        catalogue.put_image(conn, image)
    assert len(listings.computers(conn)) == 1
    assert [image.computers for image in listings.images(conn)] == [1]


def test_a_whole_life_by_what_people_ask(conn: Connection, lab: Lab) -> None:
    made = reserve(conn, computer="vcl-1")
    (claim,) = claim_all(conn)
    claim = occupied(conn, claim)
    requests.acknowledge(conn, made, "192.0.2.7")
    kept = outcomes.done(conn, claim, Event.LOADED, noted=NOTHING, rules=RULES, keep=False)
    assert kept is None
    status = requests.status_of(conn, made)
    assert status
    assert (status.state, status.address, status.remote_address) == ("reserved", "10.20.0.10", "192.0.2.7")
    assert requests.end(conn, made) == "deleted"
