"""Reading ahead over sftp, from a server that answers less than it is asked for, and from OpenSSH's."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from fix_repository import sftp_address
from fix_sshd import Sshd

from vcl_provision.channels.sftp import PACKET
from vcl_provision.channels.sftp_reading import SMALLEST, ReadAhead, largest_read
from vcl_provision.images.repository import open_repository

SHORT = 10_000
CONTENT = os.urandom(1 << 20)


class LetsAllIn(paramiko.ServerInterface):
    def check_auth_none(self, username: str) -> int:
        del username
        return paramiko.AUTH_SUCCESSFUL  # type: ignore[attr-defined, no-any-return]  # paramiko has no types

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        return paramiko.OPEN_SUCCEEDED  # type: ignore[attr-defined, no-any-return]  # paramiko has no types


class ShortHandle(paramiko.SFTPHandle):
    """A file of which no more than `SHORT` bytes are answered at a time."""

    def read(self, offset: int, length: int) -> Any:
        return super().read(offset, min(length, SHORT))  # type: ignore[no-untyped-call]  # likewise


class OneFile(paramiko.SFTPServerInterface):
    """A server with one file."""

    path = Path()

    def open(self, path: str, flags: int, attr: object) -> Any:
        del path, flags, attr
        handle: Any = ShortHandle()  # type: ignore[no-untyped-call]  # likewise
        handle.readfile = self.path.open("rb")
        handle.stat = lambda: paramiko.SFTPAttributes.from_stat(self.path.stat())  # type: ignore[no-untyped-call]  # likewise
        return handle


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    """A client's session with such a server, over a pair of sockets."""
    OneFile.path = tmp_path / "content"
    OneFile.path.write_bytes(CONTENT)
    ours, theirs = socket.socketpair()
    server: Any = paramiko.Transport(theirs)
    server.add_server_key(paramiko.ECDSAKey.generate())  # type: ignore[no-untyped-call]  # likewise
    server.set_subsystem_handler("sftp", paramiko.SFTPServer, OneFile)
    server.start_server(event=threading.Event(), server=LetsAllIn())  # goes on when it hears the client
    client: Any = paramiko.Transport(ours)
    client.start_client()
    client.auth_none("anybody")
    yield paramiko.SFTPClient.from_transport(client)
    for each in (client, server):
        each.close()
        each.join()
    ours.close()
    theirs.close()


def test_a_server_that_answers_less_than_asked_is_asked_for_the_rest(session: Any) -> None:
    assert largest_read(session) == SMALLEST
    with ReadAhead(session, "content", SMALLEST) as file:
        assert file.read() == CONTENT
        assert file.read() == b""


def test_a_file_is_read_from_where_somebody_wants_it(session: Any) -> None:
    with ReadAhead(session, "content", SMALLEST) as file:
        assert file.read(100) == CONTENT[:100]
        file.seek(500_000)
        room = memoryview(bytearray(100_000))
        assert file.readinto(room) == len(room)
        assert room == CONTENT[500_000:600_000]
        file.seek(len(CONTENT) - 10)
        assert file.readinto(room) == 10
        assert room[:10] == CONTENT[-10:]
    with ReadAhead(session, "content", SMALLEST) as file:  # what was on its way is not taken for an answer to this
        assert file.read(100) == CONTENT[:100]


def test_a_file_that_became_shorter_ends_there(session: Any) -> None:
    with ReadAhead(session, "content", SMALLEST) as file:
        assert file.read(100) == CONTENT[:100]
        os.truncate(OneFile.path, 0)
        file.seek(0)
        assert file.read() == b""


class Boasts:
    """A server's word on how much it answers at a time."""

    def __init__(self, read: int) -> None:
        self.limits: Any = paramiko.Message()
        for number in (1 << 40, read, 1 << 40, 0):
            self.limits.add_int64(number)
        self.limits.rewind()

    def _request(self, *_: object) -> tuple[int, Any]:
        return 201, self.limits


@pytest.mark.parametrize(("said", "asked"), [(1 << 40, PACKET), (100_000, 100_000), (0, SMALLEST)])
def test_a_server_s_word_is_taken_as_far_as_a_packet_goes(said: int, asked: int) -> None:
    server: Any = Boasts(said)
    assert largest_read(server) == asked


def test_openssh_says_how_much_it_answers_at_a_time(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(CONTENT)
    repository = open_repository(sftp_address(sshd, tmp_path))
    fs: Any = repository.place.fs
    assert largest_read(fs.ftp) > SMALLEST
    with repository.place.open("content", 1000) as file:
        assert file.read() == CONTENT[1000:]
    repository.close()
