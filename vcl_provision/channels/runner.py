"""What every way of running a command keeps: here, on another machine, inside a guest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Ran


class Audit(Protocol):
    """Hears of every command that ended; the daemon's writes the journal and counts."""

    def ran(self, where: str, ran: Ran, *, changes: bool) -> None: ...


class NoAudit:
    """Hears nothing: for programs outside the daemon."""

    def ran(self, where: str, ran: Ran, *, changes: bool) -> None: ...


class Channel(Protocol):
    """Runs commands in one place. Argument lists only; what is secret goes to standard input.

    `run` raises CommandFailed for a status not in `accept`, TimedOut at the deadline (its process group is killed),
    Cancelled when the work is to stop, ConnectionDropped when the way to the machine broke.
    `name` is what journal and messages call the command if its argument list says little (a whole script).
    `changes=False` marks a pure question: it is counted, not journalled.
    """

    def run(
        self,
        argv: Sequence[str],
        *,
        patience: Patience,
        stdin: bytes = b"",
        name: str = "",
        changes: bool = True,
        accept: Sequence[int] = (0,),
    ) -> Ran: ...

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        """Writes a file whole or not at all (beside, then renamed)."""
        ...

    def close(self) -> None: ...
