"""Where an image goes: replaced only when it may be, and only when the new one is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vcl_provision.images.builder.cache import remove_tree
from vcl_provision.model.faults import Refused

PROFILE = "profile.yaml"
"""What it was built from: every built image has one."""


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raises Refused if something would be lost: an image without `overwrite`, anything else in any case."""
    _finish_swap(target)
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise Refused(f"{target} is there already, and is no folder", "choose another place")
    if not any(target.iterdir()):
        return
    if not (target / PROFILE).exists():
        raise Refused(f"{target} is there already, and is no image: it is not replaced", "choose another place")
    if not overwrite:
        raise Refused(
            f"{target} is there already", "overwrite replaces it once the new one is whole; or choose another place"
        )


def put_in_place(target: Path, fill: Callable[[Path], None]) -> None:
    """Fills a folder beside the target, then gives it the target's name. Killed at any moment: old or new."""
    new, old = _beside(target, "new"), _beside(target, "old")
    target.parent.mkdir(parents=True, exist_ok=True)
    _finish_swap(target)
    remove_tree(new)
    new.mkdir()
    try:
        fill(new)
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        _finish_swap(target)
        remove_tree(new)
        raise
    remove_tree(old)


def _finish_swap(target: Path) -> None:
    """What a build left that was killed between two renames: the old image gets its name back."""
    old = _beside(target, "old")
    if not old.exists():
        return
    if target.exists():
        remove_tree(old)
    else:
        old.rename(target)


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}")
