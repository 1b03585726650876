"""Where modules are: a site's own folders, installed packages, what is shipped. Nothing is imported here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Literal

from vcl_provision.model.shipped import shipped

Kind = Literal["provisioning", "os"]
KINDS: tuple[Kind, ...] = ("provisioning", "os")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place where a module was found: a file (or the `__init__.py` of a folder), or an installed entry point.

    `instead_of` are the places of the same name that it wins over.
    """

    kind: Kind
    name: str
    file: Path | None = None
    entry: EntryPoint | None = None
    instead_of: Sequence[str] = ()

    @property
    def place(self) -> str:
        """The place as people are told it."""
        if self.file is None:
            return f"entry point {self.entry.value}" if self.entry else ""
        return str(self.file.parent if self.file.name == "__init__.py" else self.file)


def find(paths: Sequence[Path]) -> dict[tuple[Kind, str], Source]:
    """All modules by kind and name. A site's folder wins over an installed package, that over what is shipped."""
    found: dict[tuple[Kind, str], Source] = {}
    for kind in KINDS:
        for source in _in_order(kind, paths):
            first = found.setdefault((kind, source.name), source)
            if first is not source:
                found[kind, source.name] = replace(first, instead_of=[*first.instead_of, source.place])
    return found


def _in_order(kind: Kind, paths: Sequence[Path]) -> Iterator[Source]:
    for path in paths:
        yield from _in_folder(kind, path / kind)
    for entry in sorted(entry_points(group=f"vcl_provision.{kind}"), key=lambda e: e.name):
        yield Source(kind=kind, name=entry.name, entry=entry)
    yield from _in_folder(kind, shipped("modules") / kind)


def _in_folder(kind: Kind, folder: Path) -> Iterator[Source]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        if path.name.startswith(("_", ".")) or file.suffix != ".py" or not file.is_file():
            continue
        yield Source(kind=kind, name=path.name if path.is_dir() else path.stem, file=file)
