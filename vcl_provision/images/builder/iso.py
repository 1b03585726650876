"""A package tree out of a disc image, which this host's kernel need not be able to mount."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import cast

from pycdlib.dr import DirectoryRecord
from pycdlib.pycdlib import PyCdlib
from pycdlib.pycdlibexception import PyCdlibException, PyCdlibInvalidInput

from vcl_provision.model.faults import Refused

_WANTED = ("/dists", "/pool")


def unpack_tree(iso: Path, folder: Path) -> None:
    """Copies `dists/` and `pool/` of an ISO 9660 image into a folder. Raises Refused for what is no such image."""
    disc = PyCdlib()
    try:
        disc.open(str(iso))
    except (PyCdlibException, OSError) as error:
        raise Refused(f"{iso} is no ISO image that can be read: {error}") from error
    try:
        copied = sum(_copy(disc, top, folder) for top in _WANTED)
    except PyCdlibException as error:
        raise Refused(f"{iso} is damaged: {error}") from error
    finally:
        disc.close()
    if not copied:
        raise Refused(f"{iso} holds no packages: it has no folders dists/ and pool/", "take an installation disc")


def _copy(disc: PyCdlib, top: str, folder: Path) -> int:
    kind = "rr_path" if disc.has_rock_ridge() else "joliet_path"
    try:
        disc.get_record(**{kind: top})
    except PyCdlibInvalidInput:
        return 0
    count = 0
    walk = cast("Iterable[tuple[str, list[str], list[str]]]", disc.walk(**{kind: top}))  # pyright: ignore[reportUnknownMemberType] - pycdlib has no types
    for path, _, files in walk:
        for name in files:
            place = f"{path}/{name}"
            if _is_link(disc, kind, place):
                continue  # Debian's discs have `stable` beside the code name: a build names the suite itself
            target = folder / _inside(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                disc.get_file_from_iso_fp(file, **{kind: place})
            count += 1
    return count


def _is_link(disc: PyCdlib, kind: str, place: str) -> bool:
    record = disc.get_record(**{kind: place})
    return isinstance(record, DirectoryRecord) and record.rock_ridge is not None and record.rock_ridge.is_symlink()


def _inside(path: str) -> PurePosixPath:
    """A disc may be anybody's: its names stay in the folder."""
    relative = PurePosixPath(path.lstrip("/"))
    if ".." in relative.parts:
        raise Refused(f"the ISO has a file named {path!r}, which lies outside of it")
    return relative
