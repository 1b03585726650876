"""The real `vcld` as a process, started, killed, hung and stopped by its id; several of them on one database.

Machines are the simulated hypervisor's, in a file that outlives the daemons. Their logs are in the test's folder, and
the ends of them are shown when a test fails.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from a_database import a_database
from a_lab import Lab, a_lab, a_request

from modules.provisioning.sim import World, doubles, heal
from vcl_provision.store.database import Connection

VCLD = Path(sys.executable).with_name("vcld")
HOME = "192.0.2.7"
"""Where the user is."""
SHORT: dict[str, Any] = {"workers": 16, "per_host": 16, "lease": 3, "tick": 0.5, "drain": 1}
"""[work] of a daemon that is to be waited for."""
Tables = Mapping[str, Mapping[str, Any]]


@dataclass(kw_only=True)
class Node:
    """One management node; `tables` are its vcld.toml."""

    name: str
    folder: Path
    tables: Tables
    may_break: bool = False
    """This test makes it log defects."""
    process: subprocess.Popen[bytes] | None = None
    _notified: socket.socket = field(init=False)
    _ready: bool = False

    def __post_init__(self) -> None:
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(self.folder / f"{self.name}.notify"))
        self.write(self.tables)

    @property
    def conf(self) -> Path:
        return self.folder / f"{self.name}.toml"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def write(self, tables: Tables) -> None:
        """Its settings, for the next start or reload."""
        lines = [
            f"[{name}]\n" + "\n".join(f"{_key(k)} = {_toml(v)}" for k, v in t.items()) for name, t in tables.items()
        ]
        self.conf.write_text("\n".join(lines) + "\n")

    def begin(self) -> subprocess.Popen[bytes]:
        """Starts the process, and does not wait for it."""
        while self.notifications(0):
            pass
        self._ready = False
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("VCL_", "PG"))}
        environment["NOTIFY_SOCKET"] = self._notified.getsockname()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [VCLD, "--conf", self.conf], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        return self.process

    def start(self) -> Node:
        """Starts it; returns when it says that it is ready."""
        self.begin()
        self.until_notified("READY=1")
        return self

    def until_notified(self, word: str, seconds: float = 30) -> None:
        """Until it tells the service manager so. Fails if it ends before."""
        ends = time.monotonic() + seconds
        while word not in self.notifications(0.1):
            assert self.process is not None
            assert self.process.poll() is None, f"vcld {self.name} ended:\n{self.log.read_text()[-2000:]}"
            assert time.monotonic() < ends, f"vcld {self.name} did not say {word} in {seconds} s"

    def notifications(self, seconds: float) -> list[str]:
        """The lines of its next notification, none if it says nothing for so long."""
        self._notified.settimeout(seconds)
        try:
            return self._notified.recv(4096).decode().splitlines()
        except (TimeoutError, BlockingIOError):
            return []

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """As a power cut."""
        self.signal(signal.SIGKILL)
        self.ended()

    def hang(self) -> None:
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def reload(self) -> None:
        """Has it read its settings again."""
        self.signal(signal.SIGHUP)

    def stop(self) -> int:
        """Lets it drain; its exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def ended(self, seconds: float = 20) -> int:
        """Its exit status, once it has ended by itself."""
        assert self.process is not None
        return self.process.wait(seconds)

    @property
    def ready(self) -> bool:
        """It lives, and has said that it is ready."""
        while not self._ready and (lines := self.notifications(0)):
            self._ready = "READY=1" in lines
        return self._ready and self.lives

    @property
    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log about an event, of all its lives."""
        return [line for line in self.lines() if line.get("event") == event]

    def lines(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        return [_line(text) for text in self.log.read_text().splitlines()]

    def close(self) -> None:
        """Ends it, if it does not end by itself."""
        try:
            if self.process is not None:
                self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._notified.close()

    def defects(self) -> list[dict[str, Any]]:
        """What it logged that no fault of the world excuses."""
        broken = {"turn.broke", "round.broke", ""}
        return [line for line in self.lines() if line["event"] in broken or "Traceback" in line["event"]]


def _line(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except ValueError:
        return {"event": text}


def _key(name: str) -> str:
    return name if name.replace("_", "").isalnum() else json.dumps(name)


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value)
        return "{" + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in pairs.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)


@dataclass(kw_only=True)
class DaemonLab:
    """A database, a simulated hypervisor, and the daemons that a test starts on them."""

    folder: Path
    dsn: str
    conn: Connection
    lab: Lab
    world: World
    nodes: list[Node] = field(default_factory=list[Node])

    def node(
        self, name: str = "mn1", *, sim: Mapping[str, Any] | None = None, dsn: str | None = None, **tables: Any
    ) -> Node:
        """A node, not yet started; `sim` are options of the simulated hypervisor, the rest tables of vcld.toml."""
        given: dict[str, Mapping[str, Any]] = {
            "node": {"name": name},
            "database": {"dsn": dsn or self.dsn, "pool": 8},
            "ssh": {"key": self.folder / "id_ed25519"},
            "log": {"format": "json", "level": "info"},
            "modules.sim": {"path": self.world.file, "users_come": "0", **(sim or {})},
        }
        given |= tables | {"work": SHORT | tables.get("work", {})}
        self.nodes.append(Node(name=name, folder=self.folder, tables=given))
        return self.nodes[-1]

    def reserve(self, **columns: Any) -> int:
        """A request; acknowledged at once from HOME if nothing else is said."""
        return a_request(self.conn, self.lab, **{"remote_address": HOME, **columns})

    def end(self, *requests: int) -> None:
        self.conn.execute("UPDATE request SET state = 'deleted' WHERE id = ANY(%s)", [list(requests)])

    def timing(self, **seconds: float) -> None:
        """VCL's timings, for this lab."""
        for name, value in seconds.items():
            self.conn.execute(
                "INSERT INTO timing (name, seconds) VALUES (%s, %s) ON CONFLICT (name, coalesce(affiliation_id, 0)) "
                "DO UPDATE SET seconds = excluded.seconds",
                [name, value],
            )

    def one(self, question: str, *values: object) -> Any:
        """The first value of the one row."""
        rows = self.conn.execute(question.encode(), values).fetchall()
        assert len(rows) == 1, f"{len(rows)} rows: {question} {values}"
        return rows[0][0]

    def state(self, request: int) -> str:
        return self.one("SELECT state FROM request WHERE id = %s", request)

    def until(self, ask: Callable[[], Any], what: str, seconds: float = 20) -> Any:
        """Until the answer is true; it. Fails with what each request does if that takes longer."""
        ends = time.monotonic() + seconds
        while not (answer := ask()):
            assert time.monotonic() < ends, f"not in {seconds} s: {what}\n{self.picture()}"
            time.sleep(0.02)
        return answer

    def until_state(self, request: int, *states: str, seconds: float = 20) -> str:
        return self.until(
            lambda: state if (state := self.state(request)) in states else "",
            f"request {request} {' or '.join(states)}",
            seconds,
        )

    def until_step(self, request: int, step: str, seconds: float = 20) -> None:
        """Until its load log has the step."""
        question = (
            "SELECT count(*) FROM load_log l JOIN reservation r ON r.id = l.reservation_id "
            "WHERE r.request_id = %s AND l.step = %s"
        )
        self.until(lambda: self.one(question, request, step), f"request {request} at {step}", seconds)

    def ending(self, request: int) -> str:
        return self.one("SELECT DISTINCT ending FROM accounting_log WHERE request_id = %s", request)

    def another_host(self, name: str, computers: int) -> list[int]:
        """One more VM host like the first; the ids of its computers."""
        self.conn.execute(
            "INSERT INTO vm_host (name, address, vm_profile_id, module) VALUES (%s, %s, %s, 'sim')",
            [name, name, self.lab.profile_id],
        )
        made = self.conn.execute(
            "INSERT INTO computer (name, module, vm_host_id, private_address)"
            " SELECT h.name || '-' || n, 'sim', h.id, '10.30.0.0'::inet + 256 * h.id::int + n"
            "   FROM vm_host h, generate_series(1, %s) AS n WHERE h.name = %s RETURNING id",
            [computers, name],
        ).fetchall()
        return [row[0] for row in made]

    def outstanding(self) -> int:
        """Effects not yet undone."""
        return self.one("SELECT count(*) FROM effect WHERE undone_at IS NULL")

    def lying(self) -> list[tuple[str, str]]:
        """What is on the hypervisor beside images: (name, disk or machine)."""
        rows = self.world.ask("SELECT name, 'disk' FROM disk UNION SELECT name, 'machine' FROM machine ORDER BY 1, 2")
        return [(name, kind) for name, kind in rows]

    def check_nothing_is_left(self) -> None:
        """All is over: nothing claimed, nothing to be undone, nothing on the hypervisor, and nothing was double."""
        self.check_all_is_known()
        assert (self.outstanding(), self.lying()) == (0, [])

    def check_all_is_known(self) -> None:
        """All is over, and what is on the hypervisor are the machines that the database keeps, loaded, for the next."""
        held = "released_at IS NULL OR occupies OR claim_token IS NOT NULL OR due_at IS NOT NULL"
        assert self.conn.execute(f"SELECT reservation::text FROM reservation WHERE {held}".encode()).fetchall() == []
        assert self.conn.execute("SELECT name FROM computer WHERE state <> 'available'").fetchall() == []
        loaded = "SELECT name FROM computer WHERE loaded_revision_id IS NOT NULL AND NOT tainted ORDER BY name"
        undoable = (
            "SELECT DISTINCT c.name FROM effect e JOIN computer c ON c.id = e.computer_id WHERE undone_at IS NULL"
        )
        known = [name for (name,) in self.conn.execute(loaded).fetchall()]
        assert self.lying() == [(name, kind) for name in known for kind in ("disk", "machine")]
        assert sorted(name for (name,) in self.conn.execute(undoable).fetchall()) == known
        assert doubles(self.world) == []

    def sweep(self) -> None:
        """Ends what a test left, and empties the computers for the next."""
        heal(self.world)
        over = "state NOT IN ('new', 'reload', 'reserved', 'inuse')"
        self.conn.execute(f"UPDATE request SET state = 'deleted' WHERE NOT {over}".encode())
        self.until(lambda: self.one("SELECT count(*) = 0 FROM reservation WHERE released_at IS NULL"), "all to be over")
        self.conn.execute("UPDATE effect SET undone_at = now() WHERE undone_at IS NULL")
        self.conn.execute("UPDATE computer SET loaded_revision_id = NULL, prepared = false, tainted = false")
        self.conn.execute("UPDATE computer SET state = 'available', host_key = ''")
        self.conn.execute("DELETE FROM timing")
        self.world.clear()

    def picture(self) -> str:
        """How all requests go, for a failed test."""
        rows = self.conn.execute(
            "SELECT s.id, s.state, s.computer, s.doing, s.fault, n.name, r.lease_until - vcl.now() AS lease,"
            " r.due_at::text"
            "  FROM request_status s LEFT JOIN reservation r ON r.request_id = s.id"
            "  LEFT JOIN management_node n ON n.id = r.claimed_by WHERE r.released_at IS NULL ORDER BY 1 LIMIT 20"
        ).fetchall()
        return "\n".join(map(str, rows))

    def close(self) -> None:
        for node in self.nodes:
            node.signal(signal.SIGCONT)
            node.signal(signal.SIGTERM)
        for node in self.nodes:
            node.close()
            sys.stderr.write(f"--- {node.log}\n" + node.log.read_text()[-6000:] if node.log.exists() else "")
        self.world.close()
        self.conn.close()
        assert [line for node in self.nodes if not node.may_break for line in node.defects()] == []


@contextmanager
def a_daemon_lab(folder: Path, dsn: str, **lab: Any) -> Generator[DaemonLab]:
    """A lab without a running daemon yet; `lab` as in a_lab."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        made = DaemonLab(
            folder=folder, dsn=dsn, conn=conn, lab=a_lab(conn, **lab), world=World(folder / "sim.db", seed=1)
        )
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def dlab(tmp_path: Path, dsn: str) -> Generator[DaemonLab]:
    """A lab of four computers on one host."""
    with a_daemon_lab(tmp_path, dsn) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, server: str, template: str) -> Generator[DaemonLab]:
    """The same, for all tests of a file: those start no other daemon on it and leave nothing on its computers."""
    with a_database(server, template) as dsn, a_daemon_lab(tmp_path_factory.mktemp("vcld"), dsn) as made:
        yield made
