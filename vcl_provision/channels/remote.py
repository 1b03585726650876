"""One command that runs at the other end of an ssh connection, and the wait for whatever happens to it next."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from vcl_provision.channels.command import KILLED, Tail
from vcl_provision.channels.transport import Connection, Session
from vcl_provision.model.faults import Ran, Transient

SIGNALLED = 255
"""The status of a command that a signal ended there, which ssh tells without a number; as OpenSSH's client has it."""

SENDING = 0.005
"""Seconds between two looks whether the other end takes more input: of that alone paramiko tells nobody."""

PIECE = 32 * 1024

HEAD = 64 * 1024
"""Bytes in which the command's number is looked for: before it comes what a root's own start-up files have to say."""

ENDED = (EOFError, OSError)
"""What paramiko raises from any call that has something to send, once session or connection have ended: also from
receiving, which tells the other end that it may go on. The end itself is seen by the session's being closed."""

_PID = re.compile(rb"^vcl-pid (\d+)\n", re.MULTILINE)


class _Bell:
    """Rung for everything that happens to a command. paramiko's buffers take it for an event of their own, which they
    also clear; one event for two buffers would be cleared by one with bytes still lying in the other."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        """Not theirs to say."""

    def wait(self, seconds: float) -> None:
        """Until rung. What comes after this wait rings again, so look at everything afterwards."""
        self._event.wait(seconds)
        self._event.clear()


class Command:
    """A command, from its being handed over until its session is closed; `turn` it until it is `over`.

    It is handed over by a thread of its own: paramiko waits for the server's yes without an end.
    """

    def __init__(self, connection: Connection, line: str, stdin: bytes) -> None:
        self.pid: int | None = None
        self.over = False
        self._began = time.monotonic()
        self._unsent: memoryview | None = memoryview(stdin)
        self._stdout, self._stderr, self._head = Tail(), Tail(), b""
        self._bell = _Bell()
        self._session: Session | None = None
        self._refused: Transient | None = None
        threading.Thread(target=self._hand_over, args=(connection, line), name="ssh-command", daemon=True).start()

    @property
    def taken(self) -> bool:
        """The server has started it."""
        return self._session is not None

    @property
    def without_status(self) -> bool:
        """It is not known how it ended, or whether: by a signal, or the connection dropped."""
        return self._session is None or self._session.exit_status < 0

    def turn(self, seconds: float) -> None:
        """Waits at most so long for something to happen and sees to it. Raises Transient if it was not taken."""
        self._bell.wait(min(seconds, SENDING) if self.taken and self._unsent else seconds)
        if self._refused:
            raise self._refused
        if self._session:
            closed = self._session.closed  # asked first: what came before the end is still in the buffers
            with suppress(*ENDED):
                self._receive(self._session)
            self._send(self._session)
            self.over = closed

    def ended(self, shown: Sequence[str]) -> Ran:
        """What came of it. Closes the session, also of a command not yet over."""
        if self._session:
            with suppress(*ENDED):
                self._session.close()
        self._stderr.add(self._head)
        status = SIGNALLED if self._session is None or self._session.exit_status < 0 else self._session.exit_status
        return Ran(
            argv=shown,
            status=status if self.over else KILLED,
            stdout=self._stdout.text(),
            stderr=self._stderr.text(),
            seconds=time.monotonic() - self._began,
        )

    def _hand_over(self, connection: Connection, line: str) -> None:
        try:
            session = connection.open_session(line)
        except Transient as no:
            self._refused = no
        else:
            session.in_buffer.set_event(self._bell)
            session.in_stderr_buffer.set_event(self._bell)
            self._session = session
        self._bell.set()

    def _receive(self, session: Session) -> None:
        while session.recv_ready():
            self._stdout.add(session.recv(PIECE))
        while session.recv_stderr_ready():
            piece = session.recv_stderr(PIECE)
            if self.pid is None:
                piece = self._without_pid(piece)
            self._stderr.add(piece)

    def _without_pid(self, piece: bytes) -> bytes:
        """Takes the command's number out of what it said; holds back what may be a part of it."""
        self._head += piece
        found = _PID.search(self._head)
        if not found and len(self._head) < HEAD:
            return b""
        said, self._head = self._head, b""
        if not found:
            return said
        self.pid = int(found[1])
        return said[: found.start()] + said[found.end() :]

    def _send(self, session: Session) -> None:
        if self._unsent is None:
            return
        try:
            while self._unsent and session.send_ready():
                self._unsent = self._unsent[session.send(bytes(self._unsent[:PIECE])) :]
            if self._unsent:
                return
            session.shutdown_write()
        except ENDED:
            pass  # it has not heard all; its status says whether that is right
        self._unsent = None
