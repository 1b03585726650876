"""Commands and files on this machine."""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from vcl_provision.channels.command import KILLED, LOOK, NOT_FOUND, Tail, check_in_time, judged, named
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Audit, NoAudit
from vcl_provision.model.faults import Ran

ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

GRACE = 1.0
"""Seconds from SIGTERM to SIGKILL: time to unmount and to remove a lock, not to finish."""


class LocalChannel:
    """Runs commands here, each in a process group of its own that is killed whole at the deadline or on cancel.

    `environment` is added to LANG and PATH; nothing is inherited. What a command leaves running on purpose (a daemon)
    is left alone once the command itself has ended. Needs Linux 5.3 (pidfd).
    """

    def __init__(
        self,
        *,
        audit: Audit | None = None,
        environment: Mapping[str, str] | None = None,
        where: str = "the management node",
    ) -> None:
        self._audit = audit or NoAudit()
        self._environment = {**ENVIRONMENT, **(environment or {})}
        self._where = where

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
        """See Channel.run. A program that is not there ends with status 127, as in a shell."""
        patience.check()
        shown = named(argv, name)
        try:
            running = _Running(argv, stdin, self._environment)
        except OSError as no:
            ran = Ran(argv=shown, status=NOT_FOUND, stderr=f"{argv[0]}: {no.strerror}")
            self._audit.ran(self._where, ran, changes=changes)
            return judged(ran, self._where, accept)
        with running:
            try:
                running.follow(patience, shown[0])
            finally:
                # Also on the way out of a deadline or a cancel: what was killed half-way belongs in the journal.
                ran = running.ended(shown)
                self._audit.ran(self._where, ran, changes=changes)
        return judged(ran, self._where, accept)

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        """See Channel.put. Raises CommandFailed if the file cannot be written: no such folder, a full disk."""
        patience.check()
        began, said = time.monotonic(), ""
        try:
            _write_whole(Path(path), content, mode)
        except OSError as no:
            said = f"cannot write {path}: {no.strerror}"
        ran = Ran(argv=("put", path), status=1 if said else 0, stderr=said, seconds=time.monotonic() - began)
        self._audit.ran(self._where, ran, changes=True)
        judged(ran, self._where, (0,))

    def close(self) -> None:
        """Nothing is kept open."""


class _Running:
    """A started process, its streams, and its end, all in one selector. Leaving it kills what still runs."""

    def __init__(self, argv: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> None:
        self._began = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - the runner: argument lists only, never a shell
            list(argv),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
        # Readable once the process has ended, before it is reaped: until then its process group's number is its own.
        self._end = os.pidfd_open(self._process.pid)
        self._ended = False
        self._unsent = memoryview(stdin)
        self._tails = {"stdout": Tail(), "stderr": Tail()}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._end, selectors.EVENT_READ, "end")
        self._watch(self._process.stdout, selectors.EVENT_READ, "stdout")
        self._watch(self._process.stderr, selectors.EVENT_READ, "stderr")
        self._watch(self._process.stdin, selectors.EVENT_WRITE, "stdin")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        os.close(self._end)

    def follow(self, patience: Patience, name: str) -> None:
        """Moves bytes until the process has ended. Raises TimedOut and Cancelled, the process still running."""
        while not self._ended:
            check_in_time(patience, name, self._began)
            self._turn(min(LOOK, patience.remaining))
        self._drain()

    def ended(self, shown: Sequence[str]) -> Ran:
        """What came of it; kills what still runs. The status of a signal is minus its number."""
        in_time = self._ended
        if not in_time:
            self._kill()
        status = self._process.wait() if self._ended else KILLED
        return Ran(
            argv=shown,
            status=status if in_time else KILLED,
            stdout=self._tails["stdout"].text(),
            stderr=self._tails["stderr"].text(),
            seconds=time.monotonic() - self._began,
        )

    def _watch(self, stream: IO[bytes] | None, event: int, name: str) -> None:
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, event, name)

    def _turn(self, seconds: float) -> bool:
        """Waits so long for something to do, and does it. False if there was nothing."""
        events = self._selector.select(seconds)
        for key, _ in events:
            if key.data == "end":
                self._ended = True
                self._selector.unregister(key.fileobj)
            elif key.data == "stdin":
                self._send(key)
            else:
                self._receive(key)
        return bool(events)

    def _send(self, key: selectors.SelectorKey) -> None:
        try:
            self._unsent = self._unsent[os.write(key.fd, self._unsent[: 64 * 1024]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent = memoryview(b"")  # it did not want to hear the rest; its status says whether that is right
        if not self._unsent and self._process.stdin:
            self._selector.unregister(key.fileobj)
            self._process.stdin.close()

    def _receive(self, key: selectors.SelectorKey) -> None:
        with suppress(BlockingIOError):
            piece = os.read(key.fd, 64 * 1024)
            if piece:
                self._tails[key.data].add(piece)
            else:
                self._selector.unregister(key.fileobj)

    def _drain(self) -> None:
        """What lies in the pipes. Not until their end: a daemon left running may hold them for ever."""
        ends = time.monotonic() + GRACE
        while self._selector.get_map() and time.monotonic() < ends and self._turn(0):
            pass

    def _kill(self) -> None:
        self._signal(signal.SIGTERM)
        self._until_ended(GRACE)
        self._signal(signal.SIGKILL)
        self._until_ended(GRACE)  # not for ever: in an uninterruptible wait (a dead NFS server) it hears no signal
        self._drain()

    def _until_ended(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self._ended and time.monotonic() < ends:
            self._turn(LOOK)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _write_whole(path: Path, content: bytes, mode: int) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
