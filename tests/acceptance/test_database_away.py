"""The database goes away for a while: what is in hand goes on, and nothing is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from fix_daemon import DaemonLab, a_daemon_lab
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from modules.provisioning.sim import doubles
from vcl_provision.model.shipped import shipped
from vcl_provision.store import embedded

SLOW = {"delays": {"boot": "uniform(0.5, 2)", "guest": "uniform(0, 0.1)"}}


@pytest.fixture
def own(tmp_path: Path) -> Generator[DaemonLab]:
    """A lab on a server of its own, which may be stopped."""
    try:
        dsn = embedded.start(tmp_path / "pg", durable=False)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(shipped("schema.sql").read_bytes())
        with a_daemon_lab(tmp_path, dsn) as lab:
            yield lab
    finally:
        embedded.remove(tmp_path / "pg")


def away(lab: DaemonLab, seconds: float) -> None:
    """Stops the server for so long; the test's own connection is made anew."""
    lab.conn.close()
    embedded.stop(lab.folder / "pg")
    time.sleep(seconds)
    embedded.start(lab.folder / "pg", durable=False)
    lab.conn = psycopg.connect(lab.dsn, autocommit=True)


@pytest.mark.parametrize("seconds", [0.0, 6.0], ids=["restarted", "away for longer than a lease"])
def test_loads_in_hand_go_on_when_the_database_is_back(own: DaemonLab, seconds: float) -> None:
    node = own.node(sim=SLOW).start()
    requests = [own.reserve() for _ in own.lab.computers]
    own.until(lambda: own.one("SELECT count(*) FROM effect") >= 2, "loads in progress")
    away(own, seconds)
    for request in requests:
        own.until_state(request, "inuse", seconds=30)
    assert node.said("listener.disconnected")
    own.end(*requests)
    for request in requests:
        own.until_state(request, "complete")
    own.check_nothing_is_left()
    assert node.stop() == 0


def test_it_stops_while_the_database_is_away(own: DaemonLab) -> None:
    node = own.node(sim={"delays": {"boot": "60"}}).start()
    request = own.reserve()
    own.until_step(request, "bootstate")
    own.conn.close()
    embedded.stop(own.folder / "pg")
    assert node.stop() == 0
    embedded.start(own.folder / "pg", durable=False)
    own.conn = psycopg.connect(own.dsn, autocommit=True)
    own.node("mn2").start()
    own.until_state(request, "inuse")


@pytest.mark.parametrize("dead", [("/nowhere", "5432"), ("127.0.0.1", "9")], ids=["no socket", "no port"])
def test_several_hosts_are_tried_in_turn(dlab: DaemonLab, dead: tuple[str, str]) -> None:
    real = conninfo_to_dict(dlab.dsn)
    dsn = make_conninfo(dlab.dsn, host=f"{dead[0]},{real['host']}", port=f"{dead[1]},{real['port']}")
    dlab.node(dsn=dsn).start()
    dlab.until_state(dlab.reserve(), "inuse")


class Wire:
    """Carries connections from one Unix socket to another; can be cut so that only one side notices."""

    def __init__(self, folder: Path, target: str) -> None:
        folder.mkdir()
        self._target = target
        self._open: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(folder / ".s.PGSQL.5432"))
        self._door.listen(64)
        self._door.settimeout(0.2)
        self._closing = False
        self._spawn(self._accept)

    def cut(self) -> None:
        """Whoever connected finds the connection gone; the server does not, as when a router forgets it."""
        for near, _ in self._open:
            with suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closing = True
        self._threads[0].join()
        for end in (end for pair in self._open for end in pair):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._door, *(end for pair in self._open for end in pair)):
            end.close()

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            with suppress(TimeoutError):
                near, _ = self._door.accept()
                near.settimeout(None)
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                self._open.append((near, far))
                self._spawn(_carry, near, far)
                self._spawn(_carry, far, near)


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)


@pytest.fixture
def wire(dlab: DaemonLab) -> Iterator[Wire]:
    real = conninfo_to_dict(dlab.dsn)
    made = Wire(dlab.folder / "wire", f"{real['host']}/.s.PGSQL.{real['port']}")
    yield made
    made.close()


def test_a_connection_that_the_server_still_believes_in_does_not_keep_the_node_from_its_name(
    dlab: DaemonLab, wire: Wire
) -> None:
    node = dlab.node(dsn=make_conninfo(dlab.dsn, host=str(dlab.folder / "wire"), port="5432")).start()
    dlab.until_state(dlab.reserve(), "inuse")
    wire.cut()
    dlab.until_state(dlab.reserve(), "inuse")
    dlab.until(lambda: node.said("listener.disconnected"), "the cut to be noticed")
    dlab.until(lambda: node.said("listener.connected"), "the listener to be back")
    assert node.lives
    assert doubles(dlab.world) == []
