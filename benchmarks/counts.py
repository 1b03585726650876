"""What no noise touches: SQL statements and connections per whole life cycle, as PostgreSQL itself logs them."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

from benchmarks.lab import BenchLab, a_bench_lab
from benchmarks.table import Row

CYCLES = 20
LOGGED = re.compile(rb"^(vcl|bench) LOG:  (statement|execute [^:]+|connection authorized): ?(.*)$", re.MULTILINE)


def run() -> list[Row]:
    """One cycle after the other, so that no two share a statement; the user acknowledges by one of their own."""
    with a_bench_lab(computers=4) as lab:
        for _ in range(CYCLES):  # the pool opens what it needs
            _cycle(lab)
        log = _statements_are_logged(lab)
        began = log.stat().st_size
        ended = time.monotonic()
        for _ in range(CYCLES):
            _cycle(lab)
        took = time.monotonic() - ended
        busy = _logged(log, began)
        began = log.stat().st_size
        time.sleep(took)
        return _rows(busy, _logged(log, began), took)


def _cycle(lab: BenchLab) -> None:
    """Asks, waits until it is ready, acknowledges, comes, ends: three statements of a front end."""
    request = lab.one("INSERT INTO request (user_id, image_id) VALUES (1, 1) RETURNING id")
    _wait_for(lab, request, "reserved")
    lab.conn.execute("UPDATE request SET remote_address = '192.0.2.7' WHERE id = %s", [request])
    _wait_for(lab, request, "inuse")
    lab.conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [request])
    _wait_for(lab, request, "complete")


def _wait_for(lab: BenchLab, request: object, state: str) -> None:
    lab.wait_until("/* looks */ SELECT state = %s FROM request WHERE id = %s", state, request)


def _statements_are_logged(lab: BenchLab) -> Path:
    for setting in ("log_statement = 'all'", "log_connections = on", "log_line_prefix = '%a '"):
        lab.conn.execute(f"ALTER SYSTEM SET {setting}".encode())
    lab.conn.execute("SELECT pg_reload_conf()")
    lab.wait_until("SELECT current_setting('log_statement') = 'all'")
    lab.wait_until("SELECT count(*) = 0 FROM request WHERE state NOT IN ('complete', 'failed')")
    return Path(str(lab.one("SHOW data_directory")), "server.log")


def _logged(log: Path, since: int) -> Counter[str]:
    """Statements by their beginning, and `connection`; what the benchmark asks to see where it is does not count."""
    found: Counter[str] = Counter()
    for program, kind, said in LOGGED.findall(log.read_bytes()[since:]):
        if kind.startswith(b"connection"):
            found["connection"] += 1
        elif b"/* looks */" not in said:
            found[f"{program.decode()}: {b' '.join(said.split()).decode()}"] += 1
    return found


def _rows(busy: Counter[str], idle: Counter[str], took: float) -> list[Row]:
    opened = busy.pop("connection", 0)
    idle.pop("connection", 0)
    each = (busy.total() - idle.total()) / CYCLES
    fronts = sum(count for said, count in busy.items() if said.startswith("bench")) / CYCLES
    return [
        Row("SQL statements per whole life cycle, a front end's 3 included", f"{each:.1f}", "40", "150"),
        Row("  of these the front end's", f"{fronts:.1f}"),
        Row("  an idle vcld's, per second, not counted above", f"{idle.total() / took:.1f}"),
        Row("connections opened during these cycles", f"{opened}", "0", "36 each"),
    ]
