"""Checksums of a content: the one that it is named by, and one that is quicker to take.

SHA-256 (FIPS 180-4) is a content's name. It goes through a content byte after byte, on one processor: as slow as a
quick disk, and several times slower on a processor without instructions for it. BLAKE3
(https://github.com/BLAKE3-team/BLAKE3-specs) is as hard to forge and takes a third of that or less. Which one a content
has is written down beside its name by whoever measures it, and checked with it where it comes from outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, Self

from blake3 import blake3

from vcl_provision.images.repository.descriptor import Blob


class _Sum(Protocol):
    def update(self, chunk: bytes | memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


ALGORITHMS = {"sha256": hashlib.sha256, "blake3": blake3}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a content has to be: its length in bytes, and its checksums (hexadecimal) by algorithm."""

    bytes: int
    sums: Mapping[str, str]


def known(blob: Blob) -> Expected:
    """By the quicker of its sums: enough for a copy of what was added, since that was checked by both."""
    return Expected(bytes=blob.bytes, sums={"blake3": blob.blake3} if blob.blake3 else {"sha256": blob.sha256})


def named(blob: Blob) -> Expected:
    """By all that its descriptor says: for what comes from outside, and when the store itself is in question."""
    return Expected(bytes=blob.bytes, sums={"sha256": blob.sha256, **known(blob).sums})


class Summing:
    """Sums what passes by, each sum in a thread of its own: beside a copy it costs another core and hardly any time.

    What was added may be overwritten once the next has been.
    """

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._sums: dict[str, _Sum] = {name: ALGORITHMS[name]() for name in algorithms}
        self._threads = ThreadPoolExecutor(len(self._sums), thread_name_prefix="sum")
        self._last: list[Future[object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.shutdown()

    def add(self, chunk: bytes | memoryview) -> None:
        self._wait()  # no more than one chunk ahead
        self._last = [self._threads.submit(each.update, chunk) for each in self._sums.values()]

    def found(self) -> Mapping[str, str]:
        """The sums of all that was added, by algorithm."""
        self._wait()
        return {name: each.hexdigest() for name, each in self._sums.items()}

    def _wait(self) -> None:
        for each in self._last:
            each.result()


def is_whole(content: Iterable[memoryview], expected: Expected, heard: Callable[[int], None]) -> bool:
    """Whether it is what it has to be; `heard` is told the bytes of each chunk, and may raise."""
    count = 0
    with Summing(expected.sums) as own:
        for chunk in content:
            heard(len(chunk))
            own.add(chunk)
            count += len(chunk)
        return count == expected.bytes and own.found() == expected.sums
