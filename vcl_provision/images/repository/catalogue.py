"""What a repository holds: each descriptor read once, and again when it changes; bad ones listed with their reason."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from vcl_provision.images.repository import layout
from vcl_provision.images.repository.descriptor import ImageDescriptor
from vcl_provision.images.repository.document import LARGEST, parse
from vcl_provision.images.repository.place import Entry, Place
from vcl_provision.model.faults import Refused, Transient


@dataclass(frozen=True, kw_only=True)
class BadDescriptor:
    """A descriptor that cannot be used: its file's name without the ending, and what is wrong with it."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All that is there, by name. One that is bad stops no other."""

    good: Sequence[ImageDescriptor]
    bad: Sequence[BadDescriptor]


class Catalogue:
    """Reads descriptors of a place, and remembers them as long as their files stay as they are. For many threads."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._read: dict[str, tuple[str, ImageDescriptor | BadDescriptor]] = {}
        self._lock = threading.Lock()

    def listing(self) -> Listing:
        """Costs one look at the folder, and a read for each file that is new or has changed."""
        entries = self._place.entries(layout.REVISIONS)
        if not entries:
            _require_no_older_kind(self._place)
        read = [self._listed(entry) for entry in sorted(entries, key=lambda entry: entry.name) if _is_one(entry)]
        return Listing(
            good=[each for each in read if isinstance(each, ImageDescriptor)],
            bad=[each for each in read if isinstance(each, BadDescriptor)],
        )

    def find(self, name: str) -> ImageDescriptor | BadDescriptor | None:
        """The one of this name, if it is there. Raises Refused for what is no name."""
        entry = self._place.entry(layout.descriptor_path(name))
        return self._of(entry) if entry else None

    def _listed(self, entry: Entry) -> ImageDescriptor | BadDescriptor:
        """What cannot be read is bad today, and no reason to say nothing of the others."""
        try:
            return self._of(entry)
        except Transient as no:
            return BadDescriptor(name=entry.name.removesuffix(layout.SUFFIX), reason=f"cannot be read: {no.said}")

    def _of(self, entry: Entry) -> ImageDescriptor | BadDescriptor:
        with self._lock:
            stamp, known = self._read.get(entry.name, ("", None))
        if known and stamp == entry.stamp:
            return known
        name = entry.name.removesuffix(layout.SUFFIX)
        try:
            read = read_descriptor(self._place.read(entry.path, LARGEST + 1), name)
        except FileNotFoundError:
            return BadDescriptor(name=name, reason="was removed while it was read")
        except Refused as no:
            read = BadDescriptor(name=name, reason=no.said)
            if no.__cause__ is not None and isinstance(no.__cause__, OSError):
                return read  # its content did not change, and may be readable the next time
        with self._lock:
            self._read[entry.name] = (entry.stamp, read)
        return read


def read_descriptor(content: bytes, name: str) -> ImageDescriptor:
    """Raises Refused if it cannot be understood, or says that it is another one's."""
    descriptor = parse(content)
    if descriptor.name != name:
        raise Refused(f"says that its name is {descriptor.name!r}", "a descriptor's file is named for its revision")
    return descriptor


def _is_one(entry: Entry) -> bool:
    return entry.name.endswith(layout.SUFFIX) and not entry.name.startswith(".")


def _require_no_older_kind(place: Place) -> None:
    folder = place.local_path("")
    if folder and any(folder.glob("*/image.json")):
        raise Refused(
            f"{place} is a repository of folders with an image.json, as versions before 0.2 had it",
            "name a new folder, and build or capture the images again",
        )
