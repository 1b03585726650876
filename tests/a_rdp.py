"""The first steps of RDP, as a client takes them: [MS-RDPBCGR] 1.3.1.1, "Connection Sequence"."""

from __future__ import annotations

import ssl
import struct
from contextlib import suppress
from typing import Protocol

TLS = 1
"""PROTOCOL_SSL of 2.2.1.1.1: RDP inside of TLS."""
_WRONG = "the RDP server hung up"


class Stream(Protocol):
    """A connection: a socket, or a channel of ssh."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...


def negotiate(stream: Stream, protocol: int = TLS) -> int:
    """Asks for a protocol (X.224 connection request, 2.2.1.1); returns the one that the server confirms."""
    asked = struct.pack("<BBHI", 1, 0, 8, protocol)
    request = struct.pack(">BBHHB", 6 + len(asked), 0xE0, 0, 0, 0) + asked
    stream.sendall(struct.pack(">BBH", 3, 0, 4 + len(request)) + request)
    version, _, length = struct.unpack(">BBH", _read(stream, 4))
    answer = _read(stream, length - 4)
    assert (version, answer[1], answer[7]) == (3, 0xD0, 2), answer  # TPKT; connection confirm; negotiation response
    return struct.unpack("<I", answer[11:15])[0]


def certificate(stream: Stream) -> str:
    """Does the TLS handshake that follows; returns the server's certificate as PEM, trusted or not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(came, goes)
    done = False
    while not done:
        with suppress(ssl.SSLWantReadError):
            session.do_handshake()
            done = True
        stream.sendall(goes.read())
        if not done:
            came.write(_some(stream, 4096))
    return ssl.DER_cert_to_PEM_cert(session.getpeercert(binary_form=True) or b"")


def _read(stream: Stream, size: int) -> bytes:
    read = b""
    while len(read) < size:
        read += _some(stream, size - len(read))
    return read


def _some(stream: Stream, size: int) -> bytes:
    more = stream.recv(size)
    assert more, _WRONG
    return more
