"""Modules by name: imported when first used, checked, given their options. A broken one stops nothing but itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from vcl_provision.drivers import capabilities
from vcl_provision.drivers.driver import Driver
from vcl_provision.drivers.finding import KINDS, Kind, Source, find
from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.importing import import_source, require, summary
from vcl_provision.drivers.provisioner import LocalHost, Provisioner
from vcl_provision.model.faults import BrokenModule, Refused, SettingsError
from vcl_provision.model.options import nearest, read_table

BASES: dict[Kind, type[Driver[Any]]] = {"provisioning": Provisioner, "os": Guest}


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A module as `vcl module list` shows it. `error` says why it is broken, `note` what it wins over."""

    kind: Kind
    name: str
    path: str
    state: Literal["ok", "broken"]
    error: str = ""
    summary: str = ""
    capabilities: Sequence[str] = ()
    note: str = ""


class Modules:
    """All modules of this installation.

    `paths` are a site's own folders (each with `provisioning/` and `os/` in it), `options` the tables
    `[modules.<name>]`; `settings` is the file's name for messages. Modules of two kinds that share a name share its
    table. Safe to use from many threads.
    """

    def __init__(
        self, paths: Sequence[Path] = (), options: Mapping[str, object] | None = None, *, settings: str = "vcld.toml"
    ) -> None:
        self._sources = find(paths)
        self._tables = dict(options or {})
        self._settings = settings
        self._loaded: dict[tuple[Kind, str], type[Driver[Any]] | BrokenModule] = {}
        self._options: dict[tuple[Kind, str], object] = {}
        self._lock = threading.RLock()

    def names(self, kind: Kind) -> list[str]:
        """Names of all that is there, broken or not. Imports nothing."""
        return sorted(name for of, name in self._sources if of == kind)

    def listing(self) -> list[Listed]:
        """Every module with its state. Imports them all."""
        return [self._listed(source) for _, source in sorted(self._sources.items(), key=lambda item: item[0])]

    def provisioner(self, name: str) -> type[Provisioner[Any]]:
        """The provisioning module of that name. Raises BrokenModule if there is none or it cannot be used."""
        return cast("type[Provisioner[Any]]", self._load("provisioning", name))

    def guest(self, name: str) -> type[Guest[Any]]:
        """The OS module of that name. Raises BrokenModule if there is none or it cannot be used."""
        return cast("type[Guest[Any]]", self._load("os", name))

    def local_host(self, name: str) -> type[LocalHost]:
        """The provisioning module as what sets up a hypervisor here. Raises BrokenModule, Refused if it cannot."""
        module = self.provisioner(name)
        if not issubclass(module, LocalHost):
            raise Refused(f"module {name!r} sets up no hypervisor of its own", "add a VM host to the database instead")
        return module

    def options(self, kind: Kind, name: str) -> Any:
        """The module's options: an instance of its `Options`. Raises SettingsError, BrokenModule."""
        with self._lock:
            if (kind, name) not in self._options:
                self._options[kind, name] = self._read_options(kind, name)
            return self._options[kind, name]

    def check_options(self) -> None:
        """Reads every table `[modules.<name>]` there is; for the start of a daemon. Raises SettingsError.

        A module that is broken has no known options: it is passed over here, and refused when it is used.
        """
        for name in self._tables:
            kinds: list[Kind] = [kind for kind in KINDS if (kind, name) in self._sources]
            if not kinds:
                near = nearest(name, {known for _, known in self._sources})
                raise SettingsError(f"{self._settings}: [modules.{name}]: there is no such module{near}")
            for kind in kinds:
                with suppress(BrokenModule):
                    self.options(kind, name)

    def _read_options(self, kind: Kind, name: str) -> object:
        module = self._load(kind, name)
        where = f"{self._settings}: [modules.{name}]"
        table = self._tables.get(name, {})
        if not isinstance(table, Mapping):
            raise SettingsError(f"{where} must be a table")
        given = cast("Mapping[str, object]", table)
        foreign = given.keys() - _keys(module)
        if foreign:
            foreign &= self._keys_of_namesakes(kind, name)
        options: type[object] = module.Options
        return read_table(options, {key: given[key] for key in given if key not in foreign}, where=where)

    def _keys_of_namesakes(self, kind: Kind, name: str) -> set[str]:
        keys: set[str] = set()
        for other in KINDS:
            if other != kind and (other, name) in self._sources:
                loaded = self._try(other, name)
                keys |= set() if isinstance(loaded, BrokenModule) else _keys(loaded)
        return keys

    def _load(self, kind: Kind, name: str) -> type[Driver[Any]]:
        loaded = self._try(kind, name)
        if isinstance(loaded, BrokenModule):
            raise loaded
        return loaded

    def _try(self, kind: Kind, name: str) -> type[Driver[Any]] | BrokenModule:
        with self._lock:
            key = (kind, name)
            if key not in self._loaded:
                self._loaded[key] = self._attempt(kind, name)
            return self._loaded[key]

    def _attempt(self, kind: Kind, name: str) -> type[Driver[Any]] | BrokenModule:
        source = self._sources.get((kind, name))
        if source is None:
            near = nearest(name, self.names(kind))
            return BrokenModule(f"there is no {kind} module {name!r}{near}", "vcl module list shows them")
        try:
            return require(import_source(source), BASES[kind], source.place)
        except BrokenModule as broken:
            return broken

    def _listed(self, source: Source) -> Listed:
        loaded = self._try(source.kind, source.name)
        note = f"instead of {', '.join(source.instead_of)}" if source.instead_of else ""
        listed = Listed(kind=source.kind, name=source.name, path=source.place, state="ok", note=note)
        if isinstance(loaded, BrokenModule):
            return replace(listed, state="broken", error=loaded.said)
        return replace(listed, summary=summary(loaded), capabilities=capabilities.names(loaded))


def _keys(module: type[Driver[Any]]) -> set[str]:
    return set(getattr(module.Options, "__dataclass_fields__", {}))
