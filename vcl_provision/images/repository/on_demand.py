"""An image that is made when it is first wanted: by one, however many want it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository.descriptor import ImageDescriptor
from vcl_provision.images.repository.locks import alone
from vcl_provision.images.repository.store import Repository

Build = Callable[[], ImageDescriptor]
"""Makes a revision, adds it to the repository and returns it."""


def find_or_build(
    repository: Repository, key: str, build: Build, *, patience: Patience, recipe: str = ""
) -> ImageDescriptor:
    """The newest revision of this key ("debian 12 server amd64"), or else what `build` makes.

    With `recipe` only one that was built from it. Of all threads and processes of this machine that want the same, one
    builds and the others wait for it; if it fails or is killed the next one builds. Raises what `build` raises,
    TimedOut, Cancelled. (Management nodes that share a repository hold a lock of the database around this.)
    """
    wanted = " ".join(key.casefold().split())
    found = _newest(repository, wanted, recipe)
    if found:
        return found
    name = hashlib.sha256(f"{wanted}\n{recipe}".encode()).hexdigest()[:32]
    lock = repository.place.lock_folder() / f"build-{name}.lock"
    with alone(lock, f"somebody else to build {wanted}", patience):
        return _newest(repository, wanted, recipe) or build()


def _newest(repository: Repository, key: str, recipe: str) -> ImageDescriptor | None:
    fitting = [each for each in repository.revisions().good if each.key == key and recipe in {"", each.recipe}]
    return max(fitting, key=lambda each: (each.image, each.revision), default=None)
