"""Commands and files on another machine, over one kept ssh connection."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from vcl_provision.channels.command import LOOK, check_in_time, judged, named
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.remote import Command
from vcl_provision.channels.runner import Audit, NoAudit
from vcl_provision.channels.transport import Connection
from vcl_provision.model.faults import Cancelled, ConnectionDropped, Ran, Refused, TimedOut, Transient

AT_ONCE = 8
"""Commands at one time over one connection: sshd refuses the eleventh session (MaxSessions 10)."""

LETTING_GO = 1.0
"""Seconds that it may take to have a command killed there."""

SETTLED = 0.2
"""Seconds after which a connection whose sessions have ended without a word has ended as well, if it was that."""

PUT = 'umask 077; cat >"$1.$$" && test "$(wc -c <"$1.$$")" -eq "$2" && chmod "$3" "$1.$$" && mv -f "$1.$$" "$1" && exit'
PUT_FAILED = '; rm -f "$1.$$"; exit 1'


def quoted(argv: Sequence[str]) -> str:
    """The argument list as a POSIX shell's words: the only place where anything is quoted. Raises Refused for a NUL."""
    if any("\0" in word for word in argv):
        raise Refused("an argument holds a NUL byte, which no command line can", "look for where it comes from")
    return shlex.join(argv)


def remote_line(argv: Sequence[str]) -> str:
    """What the login shell there is given: it says its number, to be killed by, sets our environment, and becomes the
    command."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return f'echo "vcl-pid $$" >&2; export LANG=C.UTF-8 PATH={path}; exec {quoted(argv)}'


class SshChannel:
    """Runs commands as Channel says. At most 8 at once; further ones wait for their turn, within their patience.

    A command's session leader and its process group are killed at the deadline or on cancel. A command ends when it has
    exited and its streams are closed: what it leaves running must let go of them.
    """

    def __init__(self, connection: Connection, *, where: str, audit: Audit | None = None) -> None:
        self._connection = connection
        self._where = where
        self._audit = audit or NoAudit()
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known here."""
        return self._connection.alive

    def run(
        self,
        argv: Sequence[str],
        *,
        patience: Patience,
        stdin: bytes = b"",
        name: str = "",
        changes: bool = True,
        accept: Sequence[int] = (0,),
    ) -> Ran:
        """See Channel.run. A program that is not there ends with status 127; one ended by a signal with 255."""
        shown = named(argv, name)
        line = remote_line(argv)
        with self._turn(patience, shown[0]):
            command = Command(self._connection, line, stdin)
            try:
                self._follow(command, patience, shown[0])
            finally:
                # Also on the way out of a deadline or a cancel: what was killed half-way belongs in the journal.
                ran = command.ended(shown)
                self._audit.ran(self._where, ran, changes=changes)
        return judged(ran, self._where, accept)

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        """See Channel.put. The length is checked there: a connection that drops must not leave half a file."""
        script = ["sh", "-c", PUT + PUT_FAILED, "vcl", path, str(len(content)), f"{mode:o}"]
        self.run(script, patience=patience, stdin=content, name=f"put {path}")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _turn(self, patience: Patience, name: str) -> Generator[None]:
        began = time.monotonic()
        check_in_time(patience, name, began)
        while not self._turns.acquire(timeout=min(LOOK, patience.remaining)):
            check_in_time(patience, name, began)
        try:
            yield
        finally:
            self._turns.release()

    def _follow(self, command: Command, patience: Patience, name: str) -> None:
        began = time.monotonic()
        try:
            while not command.over:
                check_in_time(patience, name, began)
                command.turn(min(LOOK, patience.remaining))
        except (Cancelled, TimedOut):
            self._kill(command)
            raise
        except Transient:
            if self.alive:
                raise
        if command.without_status and self._connection.ended_within(SETTLED):
            raise ConnectionDropped(
                f"the connection to {self._where} dropped while {name} ran there",
                "nobody knows whether it was done; it is asked again",
            )

    def _kill(self, command: Command) -> None:
        """Kills the whole process group there, or gives up the connection if that is not heard within a second."""
        ends = time.monotonic() + LETTING_GO
        while command.pid is None and not command.over and time.monotonic() < ends:
            command.turn(LOOK)
        if command.pid is None:
            self._connection.close()
            return
        line = f"kill -TERM -- -{command.pid}; sleep 0.5; kill -KILL -- -{command.pid}"
        killing = Command(self._connection, f"{{ {line}; }} >/dev/null 2>&1 </dev/null", b"")
        while not killing.taken and time.monotonic() < ends:
            killing.turn(LOOK)
