"""Whole life cycles per second with machines that take no time."""

from __future__ import annotations

import json
import os
import time

import psycopg

from benchmarks.lab import BenchLab, a_bench_lab
from benchmarks.table import Row
from benchmarks.usage import Spent

COMPUTERS = 300
WARM_UP = 300
CYCLES = 3000
AT_ONCE = 300
WORK = "workers = 24\nper_host = 400"
DATABASE = "pool = 26"
"""As for a lab whose machines take no time: a worker waits for nothing but processor and database, and one that had to
wait for a connection too would cost switches of threads. Some are at PostgreSQL's disk while others work."""
SECONDS = 600.0

ASK = "INSERT INTO request (user_id, image_id, remote_address) VALUES (1, 1, '192.0.2.7')"
END = "UPDATE request SET state = 'deleted' WHERE id = %s"


def run() -> list[Row]:
    """From INSERT over `inuse` to the computer taken back. Raises AssertionError if one ended otherwise."""
    with (
        a_bench_lab(computers=COMPUTERS, work=WORK, database=DATABASE) as lab,
        lab.connected() as listener,
    ):
        listener.execute("LISTEN vcl_request")
        _cycle(lab, listener, WARM_UP)
        before = lab.meter.spent()
        _cycle(lab, listener, CYCLES)
        spent = lab.meter.spent() - before
        endings = lab.conn.execute("SELECT ending, count(*) FROM accounting_log GROUP BY 1").fetchall()
        assert endings == [("released", WARM_UP + CYCLES)], endings
        return _rows(spent)


def _rows(spent: Spent) -> list[Row]:
    cores = min(2, os.cpu_count() or 1)
    each = 1000 / CYCLES
    return [
        Row("whole life cycles (sim, no delay), per second", f"{CYCLES / spent.wall:.0f}", "150"),
        Row("  if nobody else used the machine (two cores over CPU per cycle)", f"{cores * CYCLES / spent.ours:.0f}"),
        Row("  CPU per cycle in all, ms", f"{each * spent.ours:.1f}", "13.3", "310 to 350"),
        Row("    vcld", f"{each * spent.vcld:.1f}"),
        Row("    PostgreSQL", f"{each * spent.postgres:.1f}"),
        Row("    client", f"{each * spent.client:.1f}"),
        Row("  cores that others used meanwhile", f"{spent.others / spent.wall:.1f}"),
    ]


def _cycle(lab: BenchLab, listener: psycopg.Connection, cycles: int) -> None:
    """Asks for so many, AT_ONCE of them open at a time; ends each as soon as it is heard that its user is in."""
    asked = over = 0
    ends = time.monotonic() + SECONDS
    while over < cycles:
        for _ in range(min(cycles - asked, AT_ONCE - (asked - over))):
            lab.conn.execute(ASK)
            asked += 1
        for state, request in _heard(listener, ends):
            if state == "inuse":
                lab.conn.execute(END, [request])
            over += state in {"complete", "failed"}


def _heard(listener: psycopg.Connection, ends: float) -> list[tuple[str, int]]:
    """Changes of state, all that have come by now, each once; waits for the first. Raises TimeoutError."""
    heard: set[tuple[str, int]] = set()
    while not heard:
        if time.monotonic() > ends:
            raise TimeoutError(f"not all cycles were over after {SECONDS:.0f} s")
        for notify in listener.notifies(timeout=1, stop_after=1):
            told = json.loads(notify.payload)
            if told["step"] is None and "because" not in told:
                heard.add((told["state"], told["id"]))
    return sorted(heard)
