"""A lab to measure in: a PostgreSQL of its own with its usual durability, the real `vcld`, simulated machines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from a_lab import a_lab
from psycopg.conninfo import make_conninfo

from benchmarks import TOP
from benchmarks.usage import Meter
from vcl_provision.store import embedded


@dataclass(frozen=True, kw_only=True)
class BenchLab:
    """`conn` is an administrator's connection, `meter` measures the running vcld and its PostgreSQL."""

    dsn: str
    conn: psycopg.Connection
    meter: Meter
    folder: Path

    def one(self, question: str, *values: object) -> object:
        """The first value of the first row."""
        return self.conn.execute(question.encode(), values).fetchall()[0][0]

    def wait_until(self, question: str, *values: object, seconds: float = 300.0, every: float = 0.02) -> None:
        """Until the question's answer is true. Raises TimeoutError."""
        ends = time.monotonic() + seconds
        while not self.one(question, *values):
            if time.monotonic() > ends:
                raise TimeoutError(question)
            time.sleep(every)

    @contextlib.contextmanager
    def connected(self) -> Generator[psycopg.Connection]:
        """One more connection, as a front end would have."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            yield conn


@contextlib.contextmanager
def a_bench_lab(
    *, computers: int, sim: str = 'users_come = "0"', work: str = "", database: str = ""
) -> Generator[BenchLab]:
    """Up, with the daemon started; all of it gone afterwards. The last three: lines of these tables of vcld.toml."""
    with a_database() as (folder, server):
        dsn = make_conninfo(server, options="-c search_path=vcl", application_name="bench")
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute((TOP / "schema.sql").read_bytes())
            conn.execute("SET search_path = vcl")
            a_lab(conn, computers=computers)
            sections = f'[work]\n{work}\n[modules.sim]\npath = "{folder}/world.sqlite"\n{sim}\n'
            with a_daemon(folder, server, sections, database) as daemon:
                postmaster = psutil.Process(conn.info.backend_pid).ppid()
                meter = Meter(daemon=daemon.pid, postmaster=postmaster)
                lab = BenchLab(dsn=dsn, conn=conn, meter=meter, folder=folder)
                while not lab.one("SELECT count(*) > 0 FROM management_node"):
                    assert daemon.poll() is None, (folder / "vcld.log").read_text()
                    time.sleep(0.05)
                yield lab


@contextlib.contextmanager
def a_database() -> Generator[tuple[Path, str]]:
    """An empty one: its folder, its DSN."""
    with tempfile.TemporaryDirectory(prefix="vcl-bench-") as name:
        folder = Path(name)
        try:
            yield folder, embedded.start(folder)
        finally:
            embedded.remove(folder)


@contextlib.contextmanager
def a_daemon(folder: Path, dsn: str, sections: str, database: str = "") -> Generator[subprocess.Popen[bytes]]:
    """The real vcld; `sections` are those of its settings that differ. What it could not do is shown at the end."""
    conf, log = folder / "vcld.toml", folder / "vcld.log"
    conf.write_text(
        f'[node]\nname = "bench"\n[database]\ndsn = {json.dumps(dsn)}\n{database}\n'
        f'[ssh]\nkey = "{folder}/id"\n{sections}\n'
    )
    argv = [sys.executable, "-m", "vcl_provision.faces.vcld", "--conf", str(conf)]
    with log.open("wb") as out:
        daemon = subprocess.Popen(argv, stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": str(TOP)})
    try:
        yield daemon
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        if "Traceback" in (said := log.read_text(errors="replace")):
            print(said[-4000:], file=sys.stderr)
