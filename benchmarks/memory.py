"""What three hundred loads in progress take in memory: vcld, and PostgreSQL's processes with it."""

from __future__ import annotations

import psutil

from benchmarks.lab import BenchLab, a_bench_lab
from benchmarks.table import Row

LOADS = 300
NEW = "INSERT INTO request (user_id, image_id) SELECT 1, 1 FROM generate_series(1, %s)"
WORK = "workers = 320\nper_host = 320"


def run() -> list[Row]:
    with a_bench_lab(computers=LOADS, sim='delays = {boot = "300"}', work=WORK) as lab:
        lab.conn.execute(NEW, [LOADS])
        booting = "SELECT count(DISTINCT reservation_id) FROM load_log WHERE step = 'bootstate'"
        lab.wait_until(f"SELECT ({booting}) = %s", LOADS)
        vcld = _megabytes([psutil.Process(lab.meter.daemon)])
        return [
            Row(f"memory of vcld with {LOADS} loads in progress, MB (PSS)", f"{vcld:.0f}", "", f"{21 * LOADS}"),
            Row("  and of PostgreSQL's processes with it", f"{vcld + _megabytes(_of_postgres(lab)):.0f}", "150", ""),
        ]


def _of_postgres(lab: BenchLab) -> list[psutil.Process]:
    postmaster = psutil.Process(lab.meter.postmaster)
    return [postmaster, *postmaster.children()]


def _megabytes(processes: list[psutil.Process]) -> float:
    """What they take of the machine: shared pages are counted once, in parts."""
    return sum(process.memory_full_info().pss for process in processes) / 1e6
