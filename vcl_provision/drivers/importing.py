"""A module file as a class: imported under a name of its own, checked before anybody uses it."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from vcl_provision.drivers import capabilities
from vcl_provision.drivers.driver import API, Driver, NoOptions
from vcl_provision.drivers.finding import Source
from vcl_provision.model.faults import BrokenModule

ROOT = "vcl_modules"
"""The package that module files are imported into, so that the files of a module's folder can import one another."""

_importing = threading.RLock()


def import_source(source: Source) -> object:
    """What the source holds: the imported Python module, or what its entry point names. Raises BrokenModule."""
    if not source.name.isidentifier():
        raise BrokenModule(f"{source.place}: {source.name!r} is no name for a module", "letters, digits, underscores")
    with _importing:
        try:
            return source.entry.load() if source.entry else _import_file(source)
        except (Exception, SystemExit) as error:  # somebody else's file may raise anything
            said = f"{source.place} does not import: {_said(error, source)}"
            raise BrokenModule(said, "mend it, then try it: vcl module check FILE") from error


def require(found: object, base: type[Driver[Any]], place: str) -> type[Driver[Any]]:
    """The module's class, once it is known to keep the contract's form. Raises BrokenModule naming what is missing."""
    module = getattr(found, "MODULE", None) if isinstance(found, ModuleType) else found
    if module is None:
        raise BrokenModule(f"{place} names no MODULE", "end the file with: MODULE = YourClass")
    asked = getattr(found, "API", None) or getattr(sys.modules.get(getattr(module, "__module__", "")), "API", API)
    if asked != API:
        raise BrokenModule(f"{place} is written for API {asked}, this is API {API}", "get the module's newer version")
    if not (inspect.isclass(module) and issubclass(module, base)):
        name = base.__name__
        raise BrokenModule(f"{place}: MODULE is no subclass of {name}", f"write: class Yours({name}[Options])")
    driver: type[Driver[Any]] = module  # pyright: ignore[reportUnknownVariableType] - of what, issubclass cannot say
    for fault in (_missing_methods(driver), _wrong_options(driver.Options)):
        if fault:
            raise BrokenModule(f"{place}: {fault}")
    return driver


def summary(module: type[Driver[Any]]) -> str:
    """The first line of what the module says of itself: its file's docstring, or its class's."""
    text = getattr(sys.modules.get(module.__module__), "__doc__", None) or module.__doc__ or ""
    return text.strip().partition("\n")[0]


def _missing_methods(module: type) -> str:
    missing = [*sorted(getattr(module, "__abstractmethods__", ())), *capabilities.unwritten(module)]
    return f"{module.__name__} does not write {', '.join(missing)}" if missing else ""


def _wrong_options(options: type) -> str:
    if options is NoOptions:
        return ""
    if not dataclasses.is_dataclass(options):
        return "Options is no dataclass; write @dataclass(frozen=True, kw_only=True) above it"
    params: Any = vars(options)["__dataclass_params__"]
    if not params.frozen:
        return "Options can be changed; write @dataclass(frozen=True, kw_only=True) above it"
    absent = dataclasses.MISSING
    bare = [f.name for f in dataclasses.fields(options) if f.default is absent and f.default_factory is absent]
    return f"Options has no default for {', '.join(bare)}" if bare else ""


def _import_file(source: Source) -> ModuleType:
    if source.file is None:
        raise FileNotFoundError(source.name)
    name = f"{ROOT}.{source.kind}.{source.name}"
    state = _state(source.file)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__vcl_state__", None) == state:
        return known
    _forget(name)
    _package(ROOT)
    _package(f"{ROOT}.{source.kind}")
    return _execute(name, source.file, state)


def _execute(name: str, file: Path, state: object) -> ModuleType:
    folder = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folder)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__vcl_state__"] = state
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _forget(name)
        raise
    return module


def _state(file: Path) -> object:
    """Changes when the file, or one of its folder, does: an edited module is imported anew."""
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return [(str(each), each.stat().st_mtime_ns, each.stat().st_size) for each in files]


def _forget(name: str) -> None:
    for each in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        del sys.modules[each]


def _package(name: str) -> None:
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = []
        sys.modules[name] = package


def _said(error: BaseException, source: Source) -> str:
    """The error, and the line of the module's own files where it came up."""
    own = str(source.file.parent) if source.file else ""
    lines = [f for f in traceback.extract_tb(error.__traceback__) if own and f.filename.startswith(own)]
    at = f" (line {lines[-1].lineno} of {Path(lines[-1].filename).name})" if lines else ""
    return f"{type(error).__name__}: {error}{at}"
