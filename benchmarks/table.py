"""Rows, and how they are printed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """`what` was `measured`, what is `to_reach`, and what the predecessor needs. Indented: part of the row above."""

    what: str
    measured: str
    to_reach: str = ""
    before: str = ""


HEAD = Row("what", "measured", "to reach", "predecessor")


def as_text(machine: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The machine's description, then the table in aligned columns."""
    told = [f"{name + ':':{max(map(len, machine)) + 1}} {value}" for name, value in machine.items()]
    cells = [(row.what, row.measured, row.to_reach, row.before) for row in (HEAD, *rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*told, "", lines[0], "-" * (sum(widths) + 6), *lines[1:]])


def as_json(machine: Mapping[str, str], rows: Sequence[Row]) -> str:
    return json.dumps({"machine": dict(machine), "rows": [asdict(row) for row in rows]}, indent=1)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
