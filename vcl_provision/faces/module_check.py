"""`vcl module check`: the conformance kit, shown as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vcl_provision.drivers.conformance import Checked, Report, check_file

STYLES = {"failed": "red", "not applicable": "dim"}


def check(file: Path, against: Path | None, only: Sequence[str], console: Console) -> Report:
    """Tries the module, printing each result when it is there. Raises SettingsError."""

    def show(result: Checked) -> None:
        for line in result.lines():
            console.print(Text(line, style=STYLES.get(result.verdict, "")), soft_wrap=True)

    report = check_file(file, against, show, only=only)
    console.print(Text(report.summary, style="bold green" if report.ok else "bold red"))
    return report
