"""The daemon speaks to systemd over its socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vcl_provision.faces.notify import SystemdNotifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(2)
        yield listener


def test_it_says_that_it_is_ready_and_alive_and_stops(systemd: socket.socket) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.ready()
    notifier.alive()
    notifier.stopping()
    assert [systemd.recv(4096) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_it_says_when_it_began_to_reload(systemd: socket.socket) -> None:
    SystemdNotifier({"NOTIFY_SOCKET": systemd.getsockname()}).reloading()
    first, second = systemd.recv(4096).decode().splitlines()
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_it_reaches_a_socket_of_the_abstract_kind() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0vcl-notify-{os.getpid()}")
        listener.settimeout(2)
        SystemdNotifier({"NOTIFY_SOCKET": f"@vcl-notify-{os.getpid()}"}).ready()
        assert listener.recv(4096) == b"READY=1"


def test_a_socket_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
