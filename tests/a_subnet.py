"""A number for a subnet that no other test on this machine has meanwhile, in whatever process it runs."""

from __future__ import annotations

import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def a_subnet() -> Generator[int]:
    """From 1 to 250. An abstract socket's name claims it, and is free again when this process ends, however it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
        yield next(number for number in range(1, 251) if _claims(claim, f"\0vcl-test-subnet-{number}"))


def _claims(claim: socket.socket, name: str) -> bool:
    try:
        claim.bind(name)
    except OSError as no:
        if no.errno != errno.EADDRINUSE:
            raise
        return False
    return True
