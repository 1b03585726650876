"""Whole loads for real: PostgreSQL, `vcld`, a private libvirt, a guest, a user with an ssh client."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from fix_guests import built_image
from fix_libvirt import LibvirtBench, a_libvirt_lab
from fix_real_lab import RealLab, a_real_lab
from psycopg.conninfo import make_conninfo

from benchmarks import TOP
from benchmarks.lab import a_database
from vcl_provision.images.repository.loose import read_loose


@dataclass(frozen=True, kw_only=True)
class Load:
    """One request's way: `began` is its INSERT, `told` when its user hears that they may come, `came` the end of their
    first command. `steps` are the load log's, `commands` those run in the guest that change something, with when each
    ended and how many seconds it took."""

    began: datetime
    told: datetime
    came: datetime
    steps: Mapping[str, datetime]
    commands: Mapping[str, tuple[datetime, float]]

    @property
    def whole(self) -> float:
        return (self.came - self.began).total_seconds()

    @property
    def ready(self) -> float:
        """Seconds until account and firewall were."""
        return (self.told - self.began).total_seconds()


@contextlib.contextmanager
def a_real_bench(image: str, log_level: str = "info") -> Generator[RealLab]:
    """Up, with the daemon started and the image on the VM host; all of it gone afterwards.

    The machine has what a bare boot of the image has.
    """
    built = built_image(image)
    with contextlib.ExitStack() as stack:
        folder, server = stack.enter_context(a_database())
        libvirt = stack.enter_context(a_libvirt_lab(folder / "lab", **{image: built}))
        dsn = make_conninfo(server, options="-c search_path=vcl")
        conn = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        conn.execute((TOP / "schema.sql").read_bytes())
        bench = LibvirtBench(lab=libvirt)
        stack.callback(bench.kept.close)
        bench.provisioner(bench.computer()).retrieve_image(bench.revision(f"{image}-v1"), bench.host())
        memory = read_loose(built).descriptor.min_memory_mb
        lab = stack.enter_context(a_real_lab(conn, server, bench, folder, image=image, ram_mb=memory))
        lab.node.write({**lab.node.tables, "log": {"format": "json", "level": log_level}})
        lab.node.start()
        conn.execute("LISTEN vcl_request")
        yield lab


def load(lab: RealLab) -> Load:
    """A user asks, acknowledges with it, and runs a command as soon as they hear that they may. The machine is there
    afterwards: end it."""
    request = lab.reserve()
    began = datetime.now(UTC)
    while not _is_open(lab, request):
        for _ in lab.conn.notifies(timeout=1, stop_after=1):
            pass
    told = datetime.now(UTC)
    answer = lab.ssh("true")
    came = datetime.now(UTC)
    assert answer.returncode == 0, answer.stderr
    time.sleep(0.3)  # the daemon writes its diary behind its work
    steps, commands = _steps(lab, request), _commands(lab, request)
    return Load(began=began, told=told, came=came, steps=steps, commands=commands)


def end_all(lab: RealLab) -> None:
    """Ends what is reserved; returns when the machine is taken back."""
    lab.conn.execute("UPDATE request SET state = 'deleted' WHERE state NOT IN ('complete', 'failed')")
    over = "SELECT count(*) = 0 FROM request WHERE state NOT IN ('complete', 'failed')"
    lab.until(lambda: lab.conn.execute(over.encode()).fetchall()[0][0], "all to be over")


def _is_open(lab: RealLab, request: int) -> bool:
    state, connect, fault = lab.status(request)
    assert state != "failed", fault
    return connect is not None


def _steps(lab: RealLab, request: int) -> dict[str, datetime]:
    question = (
        "SELECT step, min(at) FROM load_log l JOIN reservation r ON r.id = l.reservation_id"
        " WHERE r.request_id = %s GROUP BY 1"
    )
    return dict(lab.conn.execute(question, [request]).fetchall())


def _commands(lab: RealLab, request: int) -> dict[str, tuple[datetime, float]]:
    """By the first word of their names."""
    question = "SELECT said, at, fields FROM journal WHERE request_id = %s AND kind = 'command' ORDER BY at"
    rows = lab.conn.execute(question, [request]).fetchall()
    return {said.strip("'").split()[0]: (at, float(fields["seconds"])) for said, at, fields in rows}
