"""A file of another machine read from its beginning to its end, with many questions on their way.

paramiko's own reading ahead sleeps 10 ms whenever enough is on its way, and asks for 32 KiB at a time.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Self, cast

from paramiko.sftp import CMD_DATA, CMD_EXTENDED, CMD_READ, CMD_STATUS, SFTPError, int64

from vcl_provision.channels.sftp import PACKET, Sftp

LEAST_AHEAD, MOST_AHEAD = 1 << 20, 16 << 20
"""Bytes on their way at a time. Over no line at all four times the least took a quarter longer than the least."""

SMALLEST = 32 << 10
"""Bytes that every server answers at a time (draft-ietf-secsh-filexfer-02, section 3)."""


def largest_read(sftp: Sftp) -> int:
    """Bytes to ask the server for at a time. OpenSSH's extension, PROTOCOL section 4.8; 255 KiB with it.

    Never more than a packet holds, whatever it says: an answer lies in our memory.
    """
    try:
        limits = cast("Any", sftp)._request(CMD_EXTENDED, "limits@openssh.com")[1]  # noqa: SLF001 - no call has it
    except OSError:
        return SMALLEST
    _packet, read = int(limits.get_int64()), int(limits.get_int64())
    return min(read, PACKET) or SMALLEST  # 0 is for a server without a limit, which need not be tried


class Pace:
    """How much is to be on its way: twice what a line carries in one journey there and back, so that it never idles.

    `journey` is the seconds of one; moments are of one clock.
    """

    def __init__(self, journey: float, now: float) -> None:
        self.ahead = LEAST_AHEAD
        self._journey = journey
        self._since, self._count = now, 0

    def came(self, count: int, now: float) -> None:
        """So many bytes have come. Looks anew at the line whenever all has come that was on its way at once."""
        self._count += count
        if self._count >= self.ahead and now > self._since:
            carried = self._count / (now - self._since) * self._journey
            self.ahead = min(MOST_AHEAD, max(LEAST_AHEAD, int(2 * carried)))
            self._since, self._count = now, 0


@dataclass(frozen=True)
class _Asked:
    """A part of the file that was asked for: the question's number, from where on, how many bytes."""

    number: int
    begin: int
    length: int


class ReadAhead:
    """What `open` returns for reading; begins to read ahead where it is first read. One thread at a time."""

    def __init__(self, sftp: Sftp, path: str, largest: int) -> None:
        self._sftp: Any = sftp
        began = time.monotonic()
        self._file: Any = sftp.open(path, "rb")
        opened = time.monotonic()
        self._end = int(self._file.stat().st_size)
        told = time.monotonic()
        self._pace = Pace(min(opened - began, told - opened), told)
        self._largest = largest
        self._asked_to = 0
        self._asked: deque[_Asked] = deque()
        self._answers: dict[int, tuple[int, Any]] = {}
        self._rest = memoryview(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def seek(self, offset: int) -> int:
        """Where to read from; what was asked for elsewhere is not waited for."""
        self._asked.clear()
        self._answers.clear()
        self._rest = memoryview(b"")
        self._asked_to = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or all that are left; fewer at the end of the file."""
        parts: list[memoryview] = []
        while size != 0 and (part := self._some(size)):
            parts.append(part)
            size -= len(part) if size > 0 else 0
        return b"".join(parts)

    def readinto(self, room: memoryview) -> int:
        """Fills the room, or as much of it as there is to the end of the file; the number of bytes."""
        done = 0
        while done < len(room) and (part := self._some(len(room) - done)):
            room[done : done + len(part)] = part
            done += len(part)
        return done

    def close(self) -> None:
        """What is still on its way is dropped when it comes."""
        self._asked.clear()
        self._answers.clear()
        self._file.close()

    def _some(self, most: int) -> memoryview:
        """The next bytes, at most so many (all that are there if negative); none at the end."""
        if not self._rest:
            self._rest = memoryview(self._next())
        most = len(self._rest) if most < 0 else most
        part, self._rest = self._rest[:most], self._rest[most:]
        return part

    @property
    def _on_their_way(self) -> int:
        return self._asked_to - self._asked[0].begin if self._asked else 0

    def _next(self) -> bytes:
        while self._asked_to < self._end and self._on_their_way < self._pace.ahead:
            length = min(self._largest, self._end - self._asked_to)
            self._asked.append(self._ask(self._asked_to, length))
            self._asked_to += length
        if not self._asked:
            return b""
        asked = self._asked.popleft()
        content = self._answer(asked)
        while 0 < len(content) < asked.length:  # a server may answer less than it was asked for
            more = self._answer(self._ask(asked.begin + len(content), asked.length - len(content)))
            if not more:
                break
            content += more
        self._pace.came(len(content), time.monotonic())
        return content

    def _ask(self, begin: int, length: int) -> _Asked:
        number = self._sftp._async_request(self, CMD_READ, self._file.handle, int64(begin), int(length))  # noqa: SLF001 - no call has it
        return _Asked(number, begin, length)

    def _answer(self, asked: _Asked) -> bytes:
        """Empty where the file ends by now."""
        try:
            kind, answer = self._answers.pop(asked.number, None) or self._sftp._read_response(asked.number)  # noqa: SLF001 - likewise
            if kind == CMD_STATUS:
                self._sftp._convert_status(answer)  # noqa: SLF001 - likewise
        except EOFError:
            return b""
        if kind != CMD_DATA:
            raise SFTPError(f"the server answered a read with {kind}")
        return answer.get_string()

    def _async_response(self, kind: int, answer: Any, number: int) -> None:
        """paramiko hands over what came before the answer that somebody waits for."""
        if any(asked.number == number for asked in self._asked):
            self._answers[number] = kind, answer
