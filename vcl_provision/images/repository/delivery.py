"""Several contents brought to where they are to be, beside each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository.descriptor import Blob, ImageDescriptor
from vcl_provision.images.repository.folder import FolderPlace
from vcl_provision.images.repository.sharing import Way, shared
from vcl_provision.images.repository.transfer import (
    FileSource,
    Meter,
    PlaceSource,
    Progress,
    Source,
    Target,
    put,
    unheard,
)

AT_ONCE = 4
"""Contents moved at a time: below the sessions that an ssh server allows, enough to fill a line."""


@dataclass(frozen=True)
class Delivery:
    """Where contents come from, how files of this machine may be shared instead of copied, and for how long."""

    source_of: Callable[[Blob], Source]
    ways: Sequence[Way]
    patience: Patience
    progress: Progress = unheard

    def bring(self, targets: Sequence[Target]) -> None:
        """Brings all. When one fails the others stop, and its error is raised."""
        meter = Meter(sum(target.blob.bytes for target in targets), self.progress)
        all_of([partial(self._bring, target, meter) for target in targets], self.patience)

    def _bring(self, target: Target, meter: Meter, patience: Patience) -> None:
        source = self.source_of(target.blob)
        file = _file_of(source)
        put(
            source,
            target,
            meter,
            patience,
            share=lambda: file is not None and shared(file, target, self.ways, patience),
        )


def held_in(folder: Path, blobs: Sequence[Blob]) -> list[Target]:
    """Contents as they lie, or are to lie, in a folder of a VM host: files named by their SHA-256."""
    place = FolderPlace(folder)
    return [Target(place=place, path=blob.sha256, blob=blob) for blob in blobs]


def is_held(folder: Path, descriptor: ImageDescriptor) -> bool:
    """Whether all of it is there: each was verified before it got its name, and still has its length."""
    return all(target.there for target in held_in(folder, descriptor.blobs))


def _file_of(source: Source) -> Path | None:
    if isinstance(source, FileSource):
        return source.file
    return source.place.local_path(source.path) if isinstance(source, PlaceSource) else None


class EitherStop:
    """Set when one of two is: the work's own, or that of its sisters when one of them failed."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._own = threading.Event()

    def is_set(self) -> bool:
        return self._own.is_set() or self._patience.cancelled

    def set(self) -> None:
        self._own.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Looks ten times a second at the one that it does not own."""
        left = timeout if timeout is not None else float("inf")
        while left > 0 and not self.is_set():
            self._own.wait(min(0.1, left))
            left -= 0.1
        return self.is_set()


def all_of(jobs: Sequence[Callable[[Patience], None]], patience: Patience) -> None:
    """Does them beside each other; when one fails the others stop, and its error is raised."""
    stop = EitherStop(patience)
    shared = Patience(patience.remaining, stop=stop)
    failed: list[BaseException] = []

    def done(job: Callable[[Patience], None]) -> None:
        try:
            job(shared)
        except BaseException as no:  # noqa: BLE001 - raised again below, in the thread that waits
            failed.append(no)
            stop.set()

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="transfer") as threads:
        list(threads.map(done, jobs))
    if failed:
        raise failed[0]
