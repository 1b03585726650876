"""A TCP connection to an ssh server that really answers: cheap to try again and again while a machine boots."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time

from vcl_provision.channels.command import LOOK
from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Transient
from vcl_provision.model.lab import Address

CONNECT = 0.3
"""Seconds for the TCP connection. A first packet that fell into the void is sent again by the kernel only after one
second, then three: dialling anew is what finds a machine a moment after it has come up."""

GREETING = 3.0
"""Seconds from there to the server's first bytes: a slow guest starts a process for us. A forwarder that accepts for a
machine not yet up is left after as long."""

DEAD = 30
"""Seconds after which the kernel gives up a connection whose other end acknowledges nothing any more."""


def dial(address: Address, port: int, patience: Patience) -> socket.socket:
    """Connects, and waits until the server has begun to speak ssh; its words are left for whoever reads them.

    Raises Transient if it does not (yet), Cancelled.
    """
    patience.check()
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        _connect(sock, (str(address), port), patience.at_most(CONNECT))
        _greeted(sock, patience.at_most(GREETING))
        _watch_over(sock)
    except OSError as no:
        sock.close()
        raise Transient(f"no ssh server answers at {address} port {port}: {no.strerror or no}") from no
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, where: tuple[str, int], patience: Patience) -> None:
    status = sock.connect_ex(where)
    if status == errno.EINPROGRESS:
        _await(sock, selectors.EVENT_WRITE, patience)
        status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if status:
        raise OSError(status, os.strerror(status))


def _greeted(sock: socket.socket, patience: Patience) -> None:
    ends = time.monotonic() + patience.remaining
    while True:
        _await(sock, selectors.EVENT_READ, patience)
        seen = sock.recv(4, socket.MSG_PEEK)
        if seen == b"SSH-":
            return
        if not b"SSH-".startswith(seen) or not seen:
            raise ConnectionResetError(errno.ECONNRESET, "the other end is no ssh server, or not ready")
        if time.monotonic() >= ends:
            raise TimeoutError(errno.ETIMEDOUT, "it does not say who it is")
        patience.sleep(LOOK)


def _await(sock: socket.socket, event: int, patience: Patience) -> None:
    """Until the socket can be read or written. Raises TimeoutError at the deadline, Cancelled."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, event)
        while not selector.select(min(LOOK, patience.remaining)):
            patience.check()
            if patience.remaining <= 0:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _watch_over(sock: socket.socket) -> None:
    """The kernel tells us of a dead machine, at no cost for a living one: no thread wakes, no guest decrypts."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD // 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD // 6)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD * 1000)
