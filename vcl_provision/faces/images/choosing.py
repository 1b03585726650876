"""Which repository a command speaks to, and which revision is meant."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from vcl_provision.faces.place import Place
from vcl_provision.images.repository import ImageDescriptor, Repository, open_repository
from vcl_provision.model.faults import Refused
from vcl_provision.store import revisions


@contextmanager
def chosen(address: str, place: Place | None) -> Generator[Repository]:
    """The repository at an address; without one, that of the lab's VM profiles. Raises Refused if they name several."""
    repository = open_repository(address or _only_one(addresses_of("", place)))
    try:
        yield repository
    finally:
        repository.close()


def lab_of(repository: Repository, place: Place | None) -> Place | None:
    """The lab whose VM profiles name the repository; None if none does: then its database says nothing of it."""
    if place is None:
        return None
    with place.session() as conn:
        addresses = revisions.repositories(conn)
    return place if any(_is_at(repository, address) for address in addresses) else None


def _is_at(repository: Repository, address: str) -> bool:
    """A profile's address that cannot be understood is that of no repository, and stops no other."""
    try:
        return _where(open_repository(address)) == _where(repository)
    except Refused:
        return False


def _where(repository: Repository) -> str:
    folder = repository.place.local_path("")
    return str(folder.resolve()) if folder else repository.place.url


def named(repository: Repository, words: str) -> ImageDescriptor:
    """The revision of this name, or the best that the words fit. Raises Refused with the nearest."""
    name = words.strip()
    if name and not name.startswith(".") and "/" not in name and " " not in name and repository.has(name):
        return repository.get(name)
    return repository.match(words)[0]


def addresses_of(address: str, place: Place | None) -> list[str]:
    """The one at an address; without one, all that VM profiles of the lab name. Raises Refused if there is none."""
    if address:
        return [address]
    if place is None:
        raise Refused("no repository was named, and there is no database to ask", "name one: --repository ADDRESS")
    with place.session() as conn:
        addresses = revisions.repositories(conn)
    if not addresses:
        raise Refused("no VM profile of this lab names a repository", "name one: --repository ADDRESS")
    return addresses


def _only_one(addresses: list[str]) -> str:
    if len(addresses) > 1:
        raise Refused(f"this lab has several repositories: {', '.join(addresses)}", "name one: --repository ADDRESS")
    return addresses[0]
