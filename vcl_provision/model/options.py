"""A TOML table as a frozen dataclass: every key known, every value of the right type and unit."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from vcl_provision.model.faults import SettingsError
from vcl_provision.model.secret import Secret

T = TypeVar("T")

Seconds = Annotated[float, "seconds"]
"""A duration: in TOML a number of seconds, or a string with its unit (`"15 min"`); in Python a float."""

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*\Z")


def read_table(options: type[T], table: Mapping[str, object], *, where: str) -> T:
    """The dataclass `options` filled from a table; what the table leaves out keeps its default.

    `where` begins each message (`vcld.toml: [modules.sim]`). Fields that are dataclasses are tables themselves.
    Raises SettingsError for an unknown key (naming the nearest known one), a wrong type or a wrong unit.
    """
    hints = _hints(options)
    for key in table:
        if key not in hints:
            raise SettingsError(f"{where} has no setting {key!r}{nearest(key, hints)}")
    values = {key: _read(hints[key], value, f"{where} {key}") for key, value in table.items()}
    try:
        return options(**values)
    except (TypeError, ValueError) as wrong:
        raise SettingsError(f"{where}: {wrong}") from wrong


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, or what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(known)}" if known else "; there is none"


def seconds(value: object, *, where: str) -> float:
    """A duration as seconds: a number, or a string with one of the units ms, s, min, h, d. Raises SettingsError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match and match[2] in _UNITS:
        return float(match[1]) * _UNITS[match[2]]
    if match:
        raise SettingsError(f"{where} = {value!r}: {match[2]!r} is no unit of time; use {', '.join(_UNITS)}")
    raise SettingsError(f"{where} = {value!r}: give a duration, as seconds or like '300 s', '15 min'")


def _hints(options: type) -> dict[str, Any]:
    if not dataclasses.is_dataclass(options):
        return {}
    hints = get_type_hints(options, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(options) if field.init}


def _read(hint: Any, value: object, where: str) -> object:
    if hint == Seconds:
        return seconds(value, where=where)
    origin = get_origin(hint)
    if origin is Annotated:
        return _read(get_args(hint)[0], value, where)
    if origin in {Union, types.UnionType}:
        return _read_union(get_args(hint), value, where)
    if origin is not None:
        return _read_collection(origin, get_args(hint), value, where)
    return _read_plain(hint, value, where)


def _read_union(choices: tuple[Any, ...], value: object, where: str) -> object:
    if value is None and type(None) in choices:
        return None
    errors: list[SettingsError] = []
    for choice in choices:
        if choice is type(None):
            continue
        try:
            return _read(choice, value, where)
        except SettingsError as wrong:
            errors.append(wrong)
    raise errors[0]


def _read_collection(origin: Any, inner: tuple[Any, ...], value: object, where: str) -> object:
    if issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a table")
        items = cast("Mapping[str, object]", value).items()
        return {key: _read(inner[1], each, f"{where}.{key}") for key, each in items}
    if issubclass(origin, Sequence):
        if not isinstance(value, list):
            raise _wrong(where, value, "a list")
        return tuple(_read(inner[0], each, f"{where}[{n}]") for n, each in enumerate(cast("list[object]", value)))
    raise SettingsError(f"{where}: a setting cannot be of the type {origin.__name__}")


def _read_plain(hint: Any, value: object, where: str) -> object:
    if hint is object or hint is Any:
        return value
    known = _PLAIN.get(hint)
    if known is None:
        return _read_class(hint, value, where)
    accepts, make, what = known
    if (isinstance(value, bool) and bool not in accepts) or not isinstance(value, accepts):
        raise _wrong(where, value, what)
    return make(value)


def _read_class(hint: type[object], value: object, where: str) -> object:
    if issubclass(hint, Enum):
        return _read_word(hint, value, where)
    if not dataclasses.is_dataclass(hint):
        raise SettingsError(f"{where}: a setting cannot be of the type {hint.__name__}")
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "a table")
    return read_table(hint, cast("Mapping[str, object]", value), where=where)


def _read_word(hint: type[Enum], value: object, where: str) -> Enum:
    words = {str(member.value): member for member in hint}
    if value not in words:
        raise SettingsError(f"{where} = {value!r}: give one of {', '.join(words)}")
    return words[str(value)]


_PLAIN: dict[object, tuple[tuple[type, ...], Callable[[Any], object], str]] = {
    bool: ((bool,), bool, "true or false"),
    int: ((int,), int, "a whole number"),
    float: ((int, float), float, "a number"),
    str: ((str,), str, "a text in quotes"),
    Path: ((str,), Path, "a path in quotes"),
    Secret: ((str,), Secret, "a text in quotes"),
}
"""Type of a field: what TOML may give for it, how it is made, what to ask for."""


def _wrong(where: str, value: object, wanted: str) -> SettingsError:
    return SettingsError(f"{where} = {value!r}: give {wanted}")
