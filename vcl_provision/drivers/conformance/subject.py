"""The module that is tried: its file, its class, its source."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from vcl_provision.drivers.driver import Driver
from vcl_provision.drivers.finding import Kind, Source
from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.importing import import_source, require
from vcl_provision.drivers.provisioner import Provisioner
from vcl_provision.model.faults import BrokenModule


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One module file (or folder), imported and of the contract's form."""

    file: Path
    kind: Kind
    name: str
    module: type[Driver[Any]]

    @property
    def files(self) -> Sequence[Path]:
        return source_files(self.file)


def subject(path: Path) -> Subject:
    """The module in a file, or in a folder. Raises BrokenModule if it cannot be imported or has not the form."""
    path = path.absolute()
    file = path / "__init__.py" if path.is_dir() else path
    name = file.parent.name if file.name == "__init__.py" else file.stem
    if not file.is_file():
        raise BrokenModule(f"{path} is no module: there is no {file.name}", "a file, or a folder with __init__.py")
    found = import_source(Source(kind=_kind_by_folder(file), name=name, file=file.resolve()))
    module = getattr(found, "MODULE", None) if isinstance(found, ModuleType) else found
    kind: Kind = "os" if isinstance(module, type) and issubclass(module, Guest) else "provisioning"
    base: type[Driver[Any]] = Guest if kind == "os" else Provisioner
    return Subject(file=file.resolve(), kind=kind, name=name, module=require(found, base, str(path)))


def source_files(file: Path) -> list[Path]:
    """The files that a module is made of."""
    return sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), filename=str(file))


def _kind_by_folder(file: Path) -> Kind:
    folders = file.resolve().parent.parts
    return "os" if "os" in folders[-2:] else "provisioning"
