"""The Linux module in a real guest: who gets in, from where, until when. One guest, booted once, serves all tests."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from a_module import guest_module
from a_person import REVISION, Person, a_person
from a_task import a_task, effects_in
from fix_guest_lan import LanGuest, lan_guest

from vcl_provision.channels.guests import Counts
from vcl_provision.channels.keys import new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.drivers import (
    Computer,
    Guest,
    Refused,
    Secret,
    TimedOut,
    Transient,
    User,
)

TELNET = 8023


@pytest.fixture
def patience() -> Patience:
    return Patience(240)


@pytest.fixture(scope="module")
def guest(small_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanGuest]:
    with lan_guest(small_image, tmp_path_factory.mktemp("guest")) as running:
        running.reach(Patience(240))
        yield running


@pytest.fixture
def linux(guest: LanGuest, tmp_path: Path, patience: Patience) -> Guest[Any]:
    module = guest_module("linux")
    return module(module.Options(), a_task(tmp_path, guest.computer, guest.connections, patience))


@pytest.fixture
def alice(tmp_path: Path) -> Person:
    return a_person(tmp_path, "alice")


@pytest.fixture
def ready(linux: Guest[Any], guest: LanGuest) -> Iterator[Computer]:
    """The guest after a load, with nobody let in and no account of ours; again so afterwards."""
    linux.post_load(guest.computer, REVISION)
    yield guest.computer
    linux.sanitize(guest.computer, User(id=0, name="nobody", affiliation=""))


def test_a_load_takes_two_commands_and_one_connection_and_the_user_is_in(
    guest: LanGuest, linux: Guest[Any], alice: Person, tmp_path: Path
) -> None:
    before = guest.connections.counts
    linux.prepare(guest.computer, REVISION)
    linux.reserve(guest.computer, REVISION, alice.user)
    assert guest.shuts_out(guest.lan.user[0])
    linux.admit(guest.computer, REVISION, alice.user, guest.lan.user[0])
    assert guest.shuts_out(guest.lan.stranger[0])
    assert guest.connections.counts == Counts(connections=1, commands=before.commands + 2)
    assert alice.asks(guest, "id -un; hostname; sudo -n id -un").split() == ["alice", "guest-1", "root"]
    assert [(undo.action, undo.scope) for undo in effects_in(tmp_path).written()] == [("delete_user", "reservation")]


def test_after_the_load_only_the_management_node_gets_in(guest: LanGuest, ready: Computer, patience: Patience) -> None:
    guest.add_ipv6(patience)
    for family in (0, 1):
        assert guest.shuts_out(guest.lan.user[family])
        assert guest.shuts_out(guest.lan.stranger[family])
    assert guest.lets_in(guest.lan.management[0])


def test_the_ports_open_for_the_users_address_and_no_other(
    guest: LanGuest, linux: Guest[Any], ready: Computer, alice: Person, patience: Patience
) -> None:
    guest.add_ipv6(patience)
    guest.listen(TELNET, patience)
    linux.grant_access(ready, REVISION, alice.user, guest.lan.user[0])
    assert guest.lets_in(guest.lan.user[0])
    assert guest.shuts_out(guest.lan.stranger[0])
    assert guest.shuts_out(guest.lan.user[1])
    assert guest.shuts_out(guest.lan.user[0], TELNET)
    assert guest.lets_in(guest.lan.management[0], TELNET)


def test_another_address_of_the_user_shuts_the_first(
    guest: LanGuest, linux: Guest[Any], ready: Computer, alice: Person, patience: Patience
) -> None:
    guest.add_ipv6(patience)
    linux.add_user(ready, REVISION, alice.user)
    linux.grant_access(ready, REVISION, alice.user, guest.lan.user[0])
    linux.grant_access(ready, REVISION, alice.user, guest.lan.user[1])
    assert alice.asks(guest, "echo in", family=1) == "in\n"
    assert guest.shuts_out(guest.lan.user[0])
    linux.grant_access(ready, REVISION, alice.user, IPv6Address(f"::ffff:{guest.lan.stranger[0]}"))
    assert alice.asks(guest, "echo in", side="stranger") == "in\n"
    assert guest.shuts_out(guest.lan.user[1])


def test_who_is_in_is_seen_and_told_and_cut_off(
    guest: LanGuest, linux: Guest[Any], ready: Computer, alice: Person
) -> None:
    linux.add_user(ready, REVISION, alice.user)
    linux.grant_access(ready, REVISION, alice.user, guest.lan.user[0])
    assert not linux.is_connected(ready, REVISION, alice.user, guest.lan.user[0])
    assert not linux.is_connected(ready, REVISION, alice.user, guest.lan.management[0])
    argv = alice.ssh(guest, "echo in; exec sleep 600")
    argv.insert(1, "-tt")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as session:
        try:
            assert session.stdout
            assert session.stdout.readline() == b"in\r\n"
            assert linux.is_connected(ready, REVISION, alice.user, guest.lan.user[0])
            assert not linux.is_connected(ready, REVISION, alice.user, guest.lan.stranger[0])
            linux.notify_user(ready, alice.user, "ends in $(id) `5` 'min'\n\x1b[31m")
            said = b"".join(session.stdout.readline() for _ in range(2))
            assert b"*** ends in $(id) `5` 'min'[31m ***" in said
            linux.revoke_access(ready)
            assert session.wait(60) == 255
        finally:
            session.kill()
    assert guest.shuts_out(guest.lan.user[0])
    assert not linux.is_connected(ready, REVISION, alice.user, guest.lan.user[0])


def test_a_gate_that_a_restart_took_away_is_put_up_again(
    guest: LanGuest, linux: Guest[Any], ready: Computer, alice: Person, patience: Patience
) -> None:
    linux.grant_access(ready, REVISION, alice.user, guest.lan.user[0])
    guest.asks("nft delete table inet vcl; sed -i s/^/other/ /run/vcl-granted", patience)
    assert guest.lets_in(guest.lan.stranger[0])
    linux.is_connected(ready, REVISION, alice.user, guest.lan.user[0])
    assert guest.shuts_out(guest.lan.stranger[0])
    assert guest.lets_in(guest.lan.user[0])


def test_adding_a_user_again_takes_the_new_keys_and_rights(
    guest: LanGuest, linux: Guest[Any], ready: Computer, alice: Person, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    again = a_person(tmp_path / "new", "alice")
    linux.add_user(ready, REVISION, alice.user)
    linux.add_user(ready, replace(REVISION, sudo=False), replace(again.user, uid=4000))
    linux.grant_access(ready, REVISION, alice.user, guest.lan.user[0])
    assert again.asks(guest, "sudo -n id -u 2>/dev/null || id -un") == "alice\n"
    with pytest.raises(subprocess.CalledProcessError):
        alice.asks(guest, "true")


def test_a_user_gets_the_id_and_the_password_asked_for(
    guest: LanGuest, linux: Guest[Any], ready: Computer, patience: Patience
) -> None:
    bob = User(id=2, name="bob.b-2", affiliation="Local", password=Secret("a$b`c'd"), uid=4711)
    linux.add_user(ready, REVISION, bob)
    assert guest.asks("id -u bob.b-2", patience) == "4711\n"
    guest.log_in_with_password("bob.b-2", "a$b`c'd", patience)


def test_a_user_of_the_image_is_neither_taken_over_nor_removed(
    guest: LanGuest, linux: Guest[Any], ready: Computer, alice: Person, tmp_path: Path, patience: Patience
) -> None:
    with pytest.raises(Refused, match="guest-1: the image has a user named daemon already"):
        linux.add_user(ready, REVISION, replace(alice.user, name="daemon"))
    effects_in(tmp_path).play_backwards(linux)
    assert guest.asks("id -un daemon", patience) == "daemon\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "x; reboot"}, "a user cannot be named"),
        ({"name": ""}, "a user cannot be named"),
        ({"keys": ["no key"]}, "this is no public ssh key"),
        ({"keys": []}, "alice has neither an ssh key nor a password"),
        ({"uid": 0}, "guest-1: the image has another user with the id 0"),
    ],
)
def test_a_user_that_no_guest_could_take_is_refused(
    guest: LanGuest, linux: Guest[Any], ready: Computer, alice: Person, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        linux.add_user(ready, REVISION, replace(alice.user, **change))


def test_nothing_of_a_deleted_user_is_left(
    guest: LanGuest, linux: Guest[Any], ready: Computer, alice: Person, patience: Patience
) -> None:
    linux.add_user(ready, REVISION, alice.user)
    linux.grant_access(ready, REVISION, alice.user, guest.lan.user[0])
    alice.asks(guest, "setsid sleep 600 >/dev/null 2>&1 </dev/null & mkdir -p /tmp/a/b; touch /tmp/a/b/c /dev/shm/d")
    mine = "mkdir -p /var/spool/cron/crontabs; touch /var/mail/alice /var/spool/cron/crontabs/alice; id -u alice"
    uid = guest.asks(mine, patience).strip()
    for _ in range(2):
        linux.delete_user(ready, "alice")
    assert guest.asks(f"find / -xdev \\( -user {uid} -o -name '*alice*' \\) -not -path '/proc/*'", patience) == ""
    assert guest.asks(f"find /dev/shm /run -user {uid}; grep alice /etc/passwd /etc/group /etc/sub?id", patience) == ""
    assert guest.asks(f"ps -o stat= -u {uid} | grep -v ^Z", patience) == ""


@pytest.mark.parametrize("host_key", ["", new_key().public], ids=["none", "another"])
def test_the_undo_of_a_user_of_another_load_is_done_already(
    guest: LanGuest, linux: Guest[Any], ready: Computer, alice: Person, host_key: str, tmp_path: Path
) -> None:
    linux.add_user(ready, REVISION, alice.user)
    later = type(linux)(linux.options, replace(linux.task, computer=replace(ready, host_key=host_key)))
    effects_in(tmp_path).play_backwards(later)
    assert guest.asks("id -un alice", linux.task.patience) == "alice\n"
    effects_in(tmp_path).play_backwards(linux)
    assert guest.asks("id -un alice 2>/dev/null || echo gone", linux.task.patience) == "gone\n"


def test_a_clock_that_is_off_is_set_and_the_name_kept(
    guest: LanGuest, linux: Guest[Any], ready: Computer, patience: Patience
) -> None:
    guest.asks("date -s @1000000000; hostname other", patience)
    linux.post_load(ready, replace(REVISION, set_hostname=False))
    assert abs(int(guest.asks("date +%s", patience)) - time.time()) < 30
    assert guest.asks("hostname", patience) == "other\n"
    linux.post_load(ready, REVISION)
    assert guest.asks("hostname; cat /etc/hostname; grep -c 'guest-1$' /etc/hosts", patience).split() == [
        *("guest-1", "guest-1", "1")
    ]


def test_roots_password_becomes_another_unless_it_is_locked(
    guest: LanGuest, linux: Guest[Any], ready: Computer, patience: Patience
) -> None:
    field = "sed -n s/^root:// /etc/shadow | cut -d: -f1 >/dev/null; grep ^root: /etc/shadow | cut -d: -f2"
    guest.asks("echo root:known | chpasswd", patience)
    known = guest.asks(field, patience)
    linux.post_load(ready, REVISION)
    made = guest.asks(field, patience)
    assert made.startswith("$6$")
    assert made != known
    guest.asks("usermod -p '*' root", patience)
    linux.post_load(ready, REVISION)
    assert guest.asks(field, patience) == "*\n"


def test_users_that_may_not_log_in_yet_are_waited_for(
    guest: LanGuest, linux: Guest[Any], ready: Computer, patience: Patience
) -> None:
    guest.asks("touch /run/nologin", patience)
    waiting = threading.Thread(target=linux.wait_ready, args=(ready,))
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive()
    guest.asks("rm /run/nologin", patience)
    waiting.join(60)
    assert not waiting.is_alive()


def test_a_guest_that_never_lets_users_in_is_given_up_in_time(
    guest: LanGuest, linux: Guest[Any], ready: Computer, patience: Patience
) -> None:
    hasty = type(linux)(type(linux).Options(ready=1), linux.task)
    guest.asks("touch /run/nologin", patience)
    with pytest.raises(TimedOut, match="guest-1 answers but lets no users log in"):
        hasty.wait_ready(ready)
    with pytest.raises(TimedOut, match="guest-1 answers but lets no users log in"):
        hasty.prepare(ready, REVISION)
    guest.asks("rm /run/nologin", patience)
    assert guest.asks("pgrep -fc 'sleep 0[.]2'", patience) == "0\n"


def test_a_guest_that_is_not_there_is_asked_again_later(linux: Guest[Any], ready: Computer, guest: LanGuest) -> None:
    elsewhere = replace(ready, id=99, private_address=guest.lan.guest[0] + 1)
    with pytest.raises(Transient, match=f"no ssh server answers at {elsewhere.private_address} port 22"):
        linux.wait_ready(elsewhere)
