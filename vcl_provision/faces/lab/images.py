"""The images of a lab of one's own: built once, found again; a changed recipe makes a new revision."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.provisioner import LocalImage
from vcl_provision.faces.stages import Say
from vcl_provision.images.build import build_image
from vcl_provision.images.manifest import NAME as MANIFEST
from vcl_provision.images.manifest import read_manifest
from vcl_provision.images.recipes import Recipe, find_recipe
from vcl_provision.model.faults import Refused

BUILDS = 1800.0
"""Seconds that building one image may take: it loads packages over somebody's line."""


def have_image(image: LocalImage, repository: Path, say: Say) -> int:
    """The number of the revision that is there, built if need be. Raises Refused, CommandFailed, TimedOut."""
    if not image.recipe:
        return 1
    recipe = find_recipe(image.recipe)
    number = next(number for number in count(1) if _fits(repository / revision_name(image, number), recipe))
    build_image(
        recipe,
        repository,
        name=revision_name(image, number),
        channel=LocalChannel(),
        patience=Patience(BUILDS),
        say=say,
    )
    return number


def revision_name(image: LocalImage, number: int) -> str:
    """Its folder in the repository."""
    return f"{image.name}-v{number}"


def _fits(folder: Path, recipe: Recipe) -> bool:
    """There is none yet, or it is the one: of this recipe, or too damaged to tell."""
    if not (folder / MANIFEST).exists():
        return True
    try:
        return read_manifest(folder).recipe == recipe.digest
    except Refused:
        return True
