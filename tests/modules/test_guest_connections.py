"""The kept connections into guests, against real servers and against ports where something else is wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from a_port import free_port
from fix_channels import Heard
from fix_sshd import Sshd

from vcl_provision.channels.guests import Counts, GuestConnections
from vcl_provision.channels.keys import new_host_key, new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Cancelled, Transient, WrongHostKey
from vcl_provision.model.lab import Computer
from vcl_provision.model.states import ComputerKind, ComputerState


def a_computer(host_key: str) -> Computer:
    return Computer(
        id=7,
        name="vm-7",
        kind=ComputerKind.VIRTUALMACHINE,
        state=ComputerState.AVAILABLE,
        provisioning_module="any",
        private_address=IPv4Address("127.0.0.1"),
        host_key=host_key,
    )


@pytest.fixture
def computer(sshd: Sshd) -> Computer:
    return a_computer(sshd.host.public)


@pytest.fixture
def guests(sshd: Sshd, heard: Heard) -> Iterator[GuestConnections]:
    guests = GuestConnections(key=sshd.key, user=sshd.peer().user, port=sshd.port, audit=heard)
    yield guests
    guests.close()


def test_one_connection_serves_all_that_ask(guests: GuestConnections, computer: Computer, patience: Patience) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(guests.channel, computer, patience=patience) for _ in range(8)]
    channels = {one.result() for one in asked}
    channels.pop().run(["true"], patience=patience)
    assert not channels
    assert guests.counts == Counts(connections=1, commands=1)


def test_a_new_host_key_means_a_new_connection(
    guests: GuestConnections, computer: Computer, patience: Patience
) -> None:
    before = guests.channel(computer, patience=patience)
    with pytest.raises(WrongHostKey):
        guests.channel(replace(computer, host_key=new_host_key().public), patience=patience)
    assert guests.channel(computer, patience=patience) is not before


def test_a_dropped_connection_is_made_again(
    guests: GuestConnections, sshd: Sshd, computer: Computer, patience: Patience
) -> None:
    before = guests.channel(computer, patience=patience)
    sshd.drop_connections()
    patience.until(lambda: guests.channel(computer, patience=patience) is not before, "the drop to be seen")
    assert guests.channel(computer, patience=patience).run(["echo", "in"], patience=patience).stdout == "in\n"


def test_what_is_forgotten_is_closed(
    guests: GuestConnections, sshd: Sshd, computer: Computer, patience: Patience
) -> None:
    guests.channel(computer, patience=patience)
    guests.forget(computer)
    guests.forget(computer)
    patience.until(lambda: not sshd.children, "sshd to see the end of the connection")


def test_a_port_where_nothing_listens_is_not_there_yet(computer: Computer, patience: Patience) -> None:
    guests = GuestConnections(key=new_key(), port=free_port())
    began = time.monotonic()
    with pytest.raises(Transient, match=r"no ssh server answers at 127\.0\.0\.1 port"):
        guests.channel(computer, patience=patience)
    assert time.monotonic() - began < 5


def test_a_listener_that_never_speaks_is_left_in_time(computer: Computer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        guests = GuestConnections(key=new_key(), port=mute.getsockname()[1])
        with pytest.raises(Transient, match="no ssh server answers"):
            guests.channel(computer, patience=Patience(0.3))


def test_a_cancel_reaches_a_connection_attempt(computer: Computer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        guests = GuestConnections(key=new_key(), port=mute.getsockname()[1])
        patience = Patience(60)
        threading.Timer(0.1, patience.cancel).start()
        with pytest.raises(Cancelled):
            guests.channel(computer, patience=patience)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n", b"SS"])
def test_what_is_no_ssh_server_is_no_guest(computer: Computer, patience: Patience, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        guests = GuestConnections(key=new_key(), port=other.getsockname()[1])
        answer = threading.Thread(target=lambda: _answer(other, said))
        answer.start()
        with pytest.raises(Transient, match=r"no ssh server answers at 127\.0\.0\.1"):
            guests.channel(computer, patience=patience)
        answer.join()


def test_a_server_that_begins_and_never_goes_on_is_left_in_time(computer: Computer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stuck:
        guests = GuestConnections(key=new_key(), port=stuck.getsockname()[1])
        over = threading.Event()
        answer = threading.Thread(target=lambda: _answer(stuck, b"SSH-2.0-stuck\r\n", over))
        answer.start()
        with pytest.raises(Transient, match="vm-7 began an ssh connection and did not come to its end in time"):
            guests.channel(computer, patience=Patience(0.5))
        over.set()
        answer.join()


def test_a_guest_is_reached_as_soon_as_its_server_is_up(tmp_path: Path, patience: Patience) -> None:
    server = Sshd(folder=tmp_path, port=free_port())
    guests = GuestConnections(key=server.key, user=server.peer().user, port=server.port)
    computer = a_computer(server.host.public)

    def ask() -> bool:
        try:
            guests.channel(computer, patience=patience.at_most(10))
        except Transient:
            return False
        return True

    threading.Timer(0.3, server.start).start()
    try:
        patience.until(ask, "the guest", every=0.05)
    finally:
        guests.close()
        server.stop()
    assert guests.counts.connections == 1


def _answer(server: socket.socket, said: bytes, over: threading.Event | None = None) -> None:
    client, _ = server.accept()
    client.sendall(said)
    if over:
        over.wait(20)
    client.close()
