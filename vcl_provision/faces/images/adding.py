"""New revisions: what they are called, and how they come to be what people reserve."""

from __future__ import annotations

import re
from dataclasses import replace

from vcl_provision.faces.images.comparing import files_of
from vcl_provision.images.exchange import Naming
from vcl_provision.images.repository import ImageDescriptor, OperatingSystem, Repository
from vcl_provision.model.faults import Refused
from vcl_provision.store import catalogue, revisions
from vcl_provision.store.catalogue import NewImage
from vcl_provision.store.database import Connection

_IMAGE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ARCHITECTURES = {"amd64", "arm64", "i386", "x86_64", "aarch64", "ppc64el", "riscv64", "s390x", "armhf"}
LOADS = 600
"""Seconds that the first load is expected to take; later ones are measured."""


def next_revision(repository: Repository, image: str) -> int:
    """The number after the image's highest. Raises Refused for what cannot be an image's name."""
    if not _IMAGE.fullmatch(image):
        raise Refused(f"{image!r} cannot be an image's name", "small letters, digits, dots, dashes, at most 64")
    listing = repository.revisions()
    taken = [each.revision for each in listing.good if each.image == image]
    number = max(taken, default=0) + 1
    bad = {each.name for each in listing.bad}
    while f"{image}-v{number}" in bad or repository.has(f"{image}-v{number}"):
        number += 1
    return number


def naming(repository: Repository, image: str, system: str) -> Naming:
    """The next revision of an image. `system` says what runs inside, as a key does: `debian 12 server amd64`."""
    number = next_revision(repository, image)
    return Naming(name=f"{image}-v{number}", image=image, revision=number, os=read_system(system) if system else None)


def read_system(key: str) -> OperatingSystem:
    """An operating system from its key's words: family, version, variant, architecture; only the first has to be."""
    words = key.split()
    architecture = words.pop() if words and words[-1].casefold() in _ARCHITECTURES else "amd64"
    if not words:
        raise Refused(f"{key!r} names no operating system", "for example: debian 12 server amd64")
    family, version, variant = (*words, "", "")[:3] if len(words) < 4 else (words[0], words[1], " ".join(words[2:]))
    module = "windows" if family.casefold().startswith("windows") else "linux"
    said = " ".join((family.title(), *words[1:]))
    return OperatingSystem(
        name=said, family=family.casefold(), version=version, variant=variant, architecture=architecture, module=module
    )


def renamed(descriptor: ImageDescriptor, repository: Repository, image: str, system: str) -> ImageDescriptor:
    """An image that was built elsewhere, as the next revision of this image (its own if none is named)."""
    new = naming(repository, image or descriptor.image.lower(), system)
    os = new.os or descriptor.os
    return replace(descriptor, name=new.name, image=new.image, revision=new.revision, os=os)


def offer(conn: Connection, descriptor: ImageDescriptor, *, install_type: str, sudo: bool) -> None:
    """Puts a revision into the database, as the one that people get. Raises Refused if what loads it is not clear."""
    catalogue.put_image(
        conn,
        NewImage(
            name=descriptor.image,
            revision=descriptor.revision,
            revision_name=descriptor.name,
            os=descriptor.os.name,
            os_module=descriptor.os.module,
            install_type=install_type or _only_install_type(conn),
            min_ram_mb=descriptor.min_memory_mb,
            min_cpus=descriptor.min_cpus,
            root_access=sudo,
            load_seconds=LOADS,
            parent=descriptor.parent,
            origin=descriptor.origin,
            captured_at=descriptor.captured_at,
            files=files_of(descriptor),
        ),
    )


def _only_install_type(conn: Connection) -> str:
    known = revisions.install_types(conn)
    if len(known) == 1:
        return known[0]
    said = f"this lab loads {', '.join(known)}" if known else "nothing in this lab can load an image yet"
    raise Refused(f"what is to load the image is not clear: {said}", "name it: --install-type WORD")
