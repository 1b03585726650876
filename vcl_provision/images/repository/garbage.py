"""Taking away: revisions that nobody needs, and what then no revision names. Never what somebody is about to name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import layout
from vcl_provision.images.repository.catalogue import Listing
from vcl_provision.images.repository.locks import alone
from vcl_provision.images.repository.place import Entry, Place
from vcl_provision.images.repository.store import Repository
from vcl_provision.model.faults import Refused

GRACE = timedelta(days=1)
"""How long a content stays that no revision names: longer than any transfer, so that it may yet be named."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file that nothing needs: its path in the repository, its bytes, and why it is none's."""

    path: str
    bytes: int
    why: str


def delete(repository: Repository, name: str, *, needed: Mapping[str, Sequence[str]], patience: Patience) -> None:
    """Removes a revision's descriptor; its contents go with the next collection, if no other revision names them.

    `needed`: who needs which revision (machines that rest on it, reservations), as the caller knows. A bad descriptor
    can be deleted. Raises Refused if somebody needs it, naming who, or it is not there.
    """
    listing = repository.revisions()
    if name not in {each.name for each in (*listing.good, *listing.bad)}:
        repository.get(name)  # says what is nearest
    children = [f"its child {each.name}" for each in listing.good if each.parent == name]
    holders = [*children, *needed.get(name, ())]
    if holders:
        raise Refused(f"{name} is needed by {', '.join(holders)}", "remove those first, or wait until they are gone")
    with _collecting(repository, patience):
        repository.place.remove(layout.descriptor_path(name))


def garbage(repository: Repository, *, now: datetime, grace: timedelta = GRACE) -> list[Garbage]:
    """What a collection would remove now. Raises Refused while a descriptor is bad: what it names cannot be known."""
    named = _named(repository.revisions(), repository)
    place, before = repository.place, now - grace
    claimed = {entry.name for entry in place.entries(layout.CLAIMS) if entry.changed >= before}
    blobs = [_unnamed(entry) for entry in place.entries_below(layout.BLOBS) if entry.name not in named | claimed]
    partials = [_left(entry) for entry in place.entries_below(layout.PARTIAL)]
    claims = [_old_claim(entry) for entry in place.entries(layout.CLAIMS)]
    hidden = [_left(entry) for entry in place.entries(layout.REVISIONS) if entry.name.startswith(".")]
    return [found for entry, found in (*blobs, *partials, *claims, *hidden) if entry.changed < before]


def collect(
    repository: Repository, *, now: datetime, patience: Patience, grace: timedelta = GRACE
) -> Iterator[Garbage]:
    """Removes it, and yields each thing as it goes. Those on this machine who add are waited for, and wait.

    On other machines the grace protects: before each removal it is asked once more who claims the content.
    """
    place = repository.place
    with _collecting(repository, patience):
        for found in garbage(repository, now=now, grace=grace):
            patience.check()
            if not _claimed(place, found.path, now - grace):
                place.remove(found.path)
                yield found
        for said in place.sweep(now - grace):
            yield Garbage(path=said, bytes=0, why="a transfer that never ended")


def _collecting(repository: Repository, patience: Patience) -> AbstractContextManager[None]:
    gate = repository.place.lock_folder() / layout.GARBAGE_LOCK
    return alone(gate, f"those who add to {repository}", patience)


def _named(listing: Listing, repository: Repository) -> set[str]:
    if listing.bad:
        bad = "; ".join(f"{each.name} {each.reason}" for each in listing.bad[:3])
        said = f"{repository} has bad descriptors, and what they name cannot be known: {bad}"
        raise Refused(said, "restore them, or remove them with vcl images delete; then collect garbage")
    return {blob.sha256 for descriptor in listing.good for blob in descriptor.blobs}


def _claimed(place: Place, path: str, before: datetime) -> bool:
    if not path.startswith(f"{layout.BLOBS}/"):
        return False
    claim = place.entry(layout.claim_path(path.rpartition("/")[2]))
    return claim is not None and claim.changed >= before


def _unnamed(entry: Entry) -> tuple[Entry, Garbage]:
    return entry, Garbage(path=entry.path, bytes=entry.bytes, why="no revision names it")


def _left(entry: Entry) -> tuple[Entry, Garbage]:
    return entry, Garbage(path=entry.path, bytes=entry.bytes, why="left of a transfer that never ended")


def _old_claim(entry: Entry) -> tuple[Entry, Garbage]:
    return entry, Garbage(path=entry.path, bytes=entry.bytes, why="an old claim")
