"""`python -m benchmarks [NAME ...]`: runs them, prints one table."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks import table, this_machine
from benchmarks.table import Row

ALL = ("reaction", "cold", "held", "cycles", "memory", "counts", "remote")
NAMED = ("images", "transfers")
"""Those that run only when they are named: they take minutes, and root."""


def main() -> int:
    """1 if one could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = (*ALL, *NAMED)
    told = f"of {', '.join(known)}; without one: {', '.join(ALL)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=told)
    parser.add_argument("--json", action="store_true", help="JSON in place of the table")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}: choose from {', '.join(known)}")
    machine = this_machine.describe()
    rows, failed = _measured(asked.names or ALL)
    print(table.as_json(machine, rows) if asked.json else table.as_text(machine, rows))
    return int(failed)


def _measured(names: list[str] | tuple[str, ...]) -> tuple[list[Row], bool]:
    """One that breaks costs its own rows only."""
    rows: list[Row] = []
    failed = False
    for name in names:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        try:
            rows += importlib.import_module(f"benchmarks.{name}").run()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown in the table's place of its figures
            rows.append(Row(name, f"not measured: {type(error).__name__}: {error}"))
            failed = True
    return rows, failed


if __name__ == "__main__":
    raise SystemExit(main())
