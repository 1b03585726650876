"""The images of a lab of one's own: built once, found again; a changed profile makes a new revision."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.provisioner import LocalImage
from vcl_provision.faces.stages import Say
from vcl_provision.images.builder import build_image, load_profile, spec_digest
from vcl_provision.images.repository import ImageDescriptor, Repository, open_repository
from vcl_provision.model.faults import Refused

BUILDS = 1800.0
"""Seconds that building one image may take: it loads packages over somebody's line."""


@dataclass(frozen=True, kw_only=True)
class Had:
    """The revision of an image that is there; of a simulated one there is no descriptor."""

    number: int
    descriptor: ImageDescriptor | None = None


def have_image(image: LocalImage, address: Path, say: Say) -> Had:
    """The revision that is there, built if need be. Raises Refused, CommandFailed, TimedOut."""
    if not image.profile:
        return Had(number=1)
    spec, repository = load_profile(image.profile), open_repository(address)
    digest = spec_digest(spec)
    number = next(number for number in count(1) if _fits(repository, revision_name(image, number), digest))
    name = revision_name(image, number)
    patience = Patience(BUILDS)
    made = build_image(spec, repository, name=name, image=image.name, revision=number, patience=patience, say=say)
    return Had(number=number, descriptor=made)


def revision_name(image: LocalImage, number: int) -> str:
    """Its name in the repository."""
    return f"{image.name}-v{number}"


def _fits(repository: Repository, name: str, digest: str) -> bool:
    """There is none yet, or it is the one of this profile. A bad one stays for whoever may mend it."""
    try:
        return not repository.has(name) or repository.get(name).recipe == digest
    except Refused:
        return False
