"""Moving a content: it is whole and of its sum, or not there; one moves it, and goes on where another was cut off."""

from __future__ import annotations

import contextlib
import errno
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Protocol, cast

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import layout
from vcl_provision.images.repository.descriptor import Blob
from vcl_provision.images.repository.locks import alone
from vcl_provision.images.repository.place import CHUNK, Place, Sink
from vcl_provision.images.repository.sums import ALGORITHMS, Expected, Summing, known, named
from vcl_provision.model.faults import Refused, TimedOut

Progress = Callable[[int, int], None]
"""Hears how many bytes are done, and of how many."""


def unheard(_done: int, _total: int) -> None:
    """Progress that nobody wants to see."""


class Meter:
    """Counts for many threads, and tells whoever listens."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._done = 0
        self._lock = threading.Lock()
        progress(0, total)

    def add(self, count: int) -> None:
        """Counts bytes that are done; negative ones were done in vain."""
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)


class Content(Protocol):
    """What a source was opened for: read to its end, then closed."""

    def readinto(self, room: memoryview, /) -> int: ...

    def close(self) -> None: ...


class Source(Protocol):
    """Where a content comes from: opened to be read from an offset on; its string names it to people."""

    def open(self, offset: int) -> Content: ...

    def errors(self) -> contextlib.AbstractContextManager[None]:
        """Says what errors in reading mean."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlaceSource:
    """A file of a place."""

    place: Place
    path: str

    def __str__(self) -> str:
        return f"{self.path} of {self.place}"

    def open(self, offset: int) -> Content:
        try:
            return cast("Content", self.place.open(self.path, offset))
        except FileNotFoundError as no:
            raise Refused(f"{self} is missing", "get the image again from where it came from") from no

    def errors(self) -> contextlib.AbstractContextManager[None]:
        return self.place.errors()


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A file of this machine."""

    file: Path

    def __str__(self) -> str:
        return str(self.file)

    def open(self, offset: int) -> Content:
        with self.errors():
            file = self.file.open("rb")
            file.seek(offset)
            return file

    @contextlib.contextmanager
    def errors(self) -> Generator[None]:
        try:
            yield
        except OSError as no:
            raise Refused(f"{self.file} cannot be read: {no.strerror or no}", "look at the file") from no


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a content is to be. `strict`: it comes from outside, so all its sums are taken, not the quickest alone."""

    place: Place
    path: str
    blob: Blob
    strict: bool = False

    @property
    def there(self) -> bool:
        """Whole: it has its name only then."""
        entry = self.place.entry(self.path)
        return entry is not None and entry.bytes == self.blob.bytes

    @property
    def expected(self) -> Expected:
        """What it has to be to get its name."""
        return named(self.blob) if self.strict else known(self.blob)

    @property
    def lacks(self) -> int:
        """Bytes that are still to come if it is not there: some may be there of an attempt that was cut off."""
        return max(0, self.blob.bytes - self.place.sink(self.path, self.blob).begun())


def put(
    source: Source, target: Target, meter: Meter, patience: Patience, *, share: Callable[[], bool] = lambda: False
) -> None:
    """Makes sure that the content is there; whoever is at it already is waited for.

    `share` is tried first: it is there then without having been copied. Cut off, killed or cancelled, it goes on where
    it was the next time. Raises Refused if the source is not what it should be (nothing is left then) or the place is
    full, Transient if one of them cannot be reached, Cancelled, TimedOut.
    """
    place, blob = target.place, target.blob
    lock = place.lock_folder() / layout.lock_name(blob.sha256)
    with alone(lock, f"somebody else to bring {blob.sha256[:12]} to {place}", patience), place.errors():
        if target.there or share():
            meter.add(blob.bytes)
        else:
            fill(source, place.sink(target.path, blob), target.expected, meter, patience)


def fill(source: Source, sink: Sink, expected: Expected, meter: Meter, patience: Patience) -> None:
    """Writes a content to a sink that nobody else writes to. Raises what `put` does, and the sink's own errors."""
    try:
        if not _filled(source, sink, expected, meter, patience):
            sink.discard()  # what was there of an earlier attempt may be what is wrong: once more without it
            _filled(source, sink, expected, meter, patience)
        sink.finish()
    except Refused:
        sink.discard()
        raise
    except OSError as no:
        if no.errno == errno.ENOSPC:
            sink.discard()
        raise
    finally:
        sink.leave()


def _filled(source: Source, sink: Sink, expected: Expected, meter: Meter, patience: Patience) -> bool:
    """Fills it; false if the content differs and some of it was there before. Raises Refused if the source is wrong."""
    begun = sink.begun()
    if begun > expected.bytes:
        return False
    with Summing(expected.sums) as own:
        for chunk in sink.read_begun() if begun else ():
            _check(patience, source)
            own.add(chunk)
        meter.add(begun)
        done = begun
        for chunk in chunks(source, begun, expected.bytes):
            _check(patience, source)
            own.add(chunk)
            sink.append(chunk)
            meter.add(len(chunk))
            done += len(chunk)
        if done < expected.bytes:
            said = f"{source} is cut off: {done} of {expected.bytes} bytes"
            raise Refused(said, "get it again from where it came from")
        if own.found() == expected.sums:
            return True
    meter.add(-done)
    if begun:
        return False
    raise Refused(f"{source} is damaged: its checksum differs", "get it again from where it came from")


def chunks(source: Source, begin: int, end: int) -> Iterator[memoryview]:
    """The source's bytes, of which a chunk is overwritten once the next but one is asked for.

    Two rooms take turns: a new one for each chunk would have to be emptied by the kernel, which takes longer than the
    copying. Errors in reading are the source's, not the sink's.
    """
    if begin == end:
        return
    rooms = cycle([memoryview(bytearray(CHUNK)) for _ in range(2)])
    with source.errors(), contextlib.closing(source.open(begin)) as file:
        while begin < end and (count := file.readinto(room := next(rooms)[: end - begin])):
            begin += count
            yield room[:count]


def blob_of(file: Path) -> Blob:
    """Measures a file of this machine. Raises Refused if it cannot be read."""
    count = 0
    with Summing(ALGORITHMS) as own:
        for chunk in chunks(FileSource(file=file), 0, sys.maxsize):
            own.add(chunk)
            count += len(chunk)
        return Blob(bytes=count, **own.found())


def _check(patience: Patience, source: Source) -> None:
    patience.check()
    if patience.remaining <= 0:
        raise TimedOut(f"{source} was not copied in time", "ask again: it goes on where it was")
