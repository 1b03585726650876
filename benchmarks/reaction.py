"""From a committed INSERT to its handler's first step, with ten thousand requests for later waiting."""

from __future__ import annotations

import random
import statistics
import time
from datetime import UTC, datetime

from benchmarks.lab import BenchLab, a_bench_lab
from benchmarks.table import Row

LATER, SAMPLES, COMPUTERS = 10_000, 200, 250
FUTURE = """
    INSERT INTO request (user_id, image_id, start_time, end_time)
    SELECT 1, 1, now() + slot * interval '2 hours', now() + slot * interval '2 hours' + interval '1 hour'
      FROM generate_series(2, %s) AS slot, generate_series(1, %s)
"""
FIRST_STEP = """
    SELECT min(l.at) FROM load_log l JOIN reservation r ON r.id = l.reservation_id
     WHERE r.request_id = %s AND l.step = 'statuscheck'
"""


def run() -> list[Row]:
    with a_bench_lab(computers=COMPUTERS) as lab:
        lab.conn.execute(FUTURE, [1 + LATER // (COMPUTERS // 5), COMPUTERS // 5])
        lab.wait_until("SELECT count(*) = 0 FROM reservation WHERE computer_id IS NULL", seconds=300)
        seconds = sorted(_one(lab) for _ in range(SAMPLES))
    median, p99 = statistics.median(seconds), seconds[int(0.99 * len(seconds))]
    waiting = f"reaction, {LATER} future requests waiting"
    return [
        Row(f"{waiting}: median, ms", f"{1000 * median:.1f}", "10", "7200"),
        Row(f"{waiting}: p99, ms", f"{1000 * p99:.1f}", "50", "10250"),
    ]


def _one(lab: BenchLab) -> float:
    """Seconds of one, at a random phase of everything that ticks."""
    time.sleep(random.uniform(0.02, 0.2))
    request = lab.conn.execute("INSERT INTO request (user_id, image_id) VALUES (1, 1) RETURNING id").fetchall()[0][0]
    committed = datetime.now(UTC)
    while (began := lab.conn.execute(FIRST_STEP, [request]).fetchall()[0][0]) is None:
        time.sleep(0.01)
    lab.conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s AND state NOT IN ('deleted')", [request])
    return (began - committed).total_seconds()
