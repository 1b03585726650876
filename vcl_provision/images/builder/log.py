"""What the programs of a build said: what one reads when it has failed."""

from __future__ import annotations

from pathlib import Path

from vcl_provision.model.faults import Ran


class BuildLog:
    """Adds each command that ended to a file, with its output. Secrets are on no command line and in no output."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def ran(self, where: str, ran: Ran, *, changes: bool) -> None:
        """See Audit.ran. What a mere question was answered is left out."""
        lines = [f"$ {' '.join(ran.argv)}  [on {where}: status {ran.status} after {ran.seconds:.1f} s]"]
        if changes or ran.status:
            lines += [text.rstrip() for text in (ran.stdout, ran.stderr) if text.strip()]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n".join([*lines, ""]))
