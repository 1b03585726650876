"""From an INSERT to a machine open for its user, on a computer that holds the image already: our own time."""

from __future__ import annotations

from statistics import median

from fix_real_lab import RealLab

from benchmarks.real import Load, a_real_bench, end_all, load
from benchmarks.table import Row

TIMES = 5
LOAD = "INSERT INTO request (user_id, image_id, state) VALUES (user_named('alice'), image_named('small'), 'reload')"


def run() -> list[Row]:
    with a_real_bench("small") as lab:
        taken = [_one(lab) for _ in range(TIMES)]
    whole, inside = median(one.ready for one in taken), median(_inside(one) for one in taken)
    ours = median(one.ready - _inside(one) for one in taken)
    return [
        Row("image held already: INSERT to open for the user, our own time, s", f"{ours:.3f}", "1"),
        Row("  the guest's one command, for account and firewall, s", f"{inside:.2f}"),
        Row("  both, s", f"{whole:.2f}"),
    ]


def _one(lab: RealLab) -> Load:
    lab.conn.execute(LOAD)
    over = "SELECT count(*) = 0 FROM request WHERE state NOT IN ('complete', 'failed')"
    lab.until(lambda: lab.conn.execute(over.encode()).fetchall()[0][0], "the computer to hold the image")
    taken = load(lab)
    end_all(lab)
    return taken


def _inside(taken: Load) -> float:
    """Seconds of the command in the guest; raises AssertionError if there was another, for then it was loaded."""
    assert set(taken.commands) == {"admit"}, taken.commands
    return sum(seconds for _, seconds in taken.commands.values())
