"""Profiles: specs as YAML that people write, keep and share. Reading one runs nothing, and it holds no secret."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import yaml

from vcl_provision.images.builder.spec import BuildSpec
from vcl_provision.model.faults import Refused, SettingsError
from vcl_provision.model.options import nearest, read_table

SHIPPED = Path(__file__).with_name("profiles")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain words: `no` is a language, `on` a key, 52:54:00:12:34:56 an address and 0644 a mode."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _form, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", "n~"),
    ("int", r"0|-?[1-9][0-9]*", "-0123456789"),
):
    _word = re.compile(rf"(?:{_form})\Z")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _word, list(_first))  # pyright: ignore[reportUnknownMemberType] - untyped
Table = Mapping[str, object]
_EXTENDS = "extends"
_LARGEST = 1 << 20
"""Bytes of a profile; what is larger is no profile."""


def profile_names() -> Sequence[str]:
    """The profiles that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find_profile(name: str) -> Path:
    """The file of a profile: one of ours by its name, or a path. Raises Refused, naming the nearest."""
    path = Path(name)
    if "/" in name or path.suffix in {".yaml", ".yml"}:
        if not os.path.isfile(name):  # noqa: PTH113 - Path's raises where a folder may not be looked into
            raise Refused(f"there is no profile {name}", "`vcl build list` shows those that come with it")
        return path.absolute()
    if name not in profile_names():
        raise Refused(f"there is no profile {name!r}{nearest(name, profile_names())}", "`vcl build list` shows them")
    return SHIPPED / f"{name}.yaml"


def load_profile(name: str, changes: Table | None = None) -> BuildSpec:
    """The spec of a profile, with changes laid over it: texts and numbers replace, lists go on, tables are merged.

    Raises Refused, naming every key and value that cannot be used, and for an unknown key the nearest known one.
    """
    path = find_profile(name)
    return read_spec(merged(read_profile(path), changes or {}), where=str(path))


def read_spec(table: Table, *, where: str) -> BuildSpec:
    """A spec from a table of keys; what is left out has its default. Raises Refused, naming all that is wrong."""
    wrong = list(_problems(BuildSpec, table, where))
    if wrong:
        raise Refused("; ".join(wrong), "docs/building-images.md lists the keys")
    return read_table(BuildSpec, table, where=where)


def read_profile(path: Path, seen: Sequence[Path] = ()) -> dict[str, object]:
    """The table in a file, merged with that of the profile it extends. Paths in it are relative to the file."""
    if path in seen:
        raise Refused(f"{path} extends itself", "by way of " + ", ".join(str(one) for one in seen))
    table = _absolute(BuildSpec, _parsed(path), path.parent)
    parent = table.pop(_EXTENDS, None)
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise Refused(f"{path}: {_EXTENDS} = {parent!r}: give the name or path of one profile")
    beside = path.parent / parent
    return merged(read_profile(beside if beside.is_file() else find_profile(parent), (*seen, path)), table)


def write_profile(spec: BuildSpec, path: Path) -> None:
    """Saves what differs from the defaults. Reading it gives the same spec. Raises Refused for a file that is there."""
    text = yaml.safe_dump(as_table(spec), sort_keys=False, allow_unicode=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise Refused(f"{path} is there already", "give the profile another name") from error
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror}") from error


def as_table(value: Any) -> dict[str, object]:
    """What differs from the defaults, in words that YAML and JSON have."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(value):
        one, default = getattr(value, field.name), _default(field)
        if dataclasses.is_dataclass(one):
            inner = as_table(one)
            if inner:
                found[field.name] = inner
        elif one != default:
            found[field.name] = _plain(one)
    return found


def merged(below: Table, above: Table) -> dict[str, object]:
    """Two tables as one: `above` replaces texts and numbers, adds to lists, goes into tables."""
    whole = dict(below)
    for key, value in above.items():
        old = whole.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            whole[key] = merged(cast("Table", old), cast("Table", value))
        elif isinstance(old, list) and isinstance(value, list):
            whole[key] = [*cast("list[object]", old), *cast("list[object]", value)]
        else:
            whole[key] = value
    return whole


def _parsed(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise Refused(f"{path} is no profile: it has more than {_LARGEST >> 20} MiB")
        said: object = yaml.load(text, _Loader)  # noqa: S506 - a safe loader, made stricter
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(said, dict):
        raise Refused(f"{path} is no profile: it holds no table of keys", "see docs/building-images.md")
    return cast("dict[str, object]", _with_words(cast("object", said)))


def _with_words(value: object) -> object:
    """The same, every key as text: a number as a key is a mistake to be named."""
    if isinstance(value, dict):
        return {str(key): _with_words(one) for key, one in cast("dict[object, object]", value).items()}
    if isinstance(value, list):
        return [_with_words(one) for one in cast("list[object]", value)]
    return value


def _problems(options: type, table: Table, where: str) -> Iterator[str]:
    """Reads each key by itself, so that one mistake does not hide the others."""
    hints = get_type_hints(options)
    for key, value in table.items():
        hint = hints.get(key)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            yield from _problems(hint, cast("Table", value), f"{where} {key}")
            continue
        try:
            read_table(options, {key: value}, where=where)
        except SettingsError as wrong:
            yield str(wrong)


def _absolute(options: type, table: Table, folder: Path) -> dict[str, object]:
    """The same table, its paths made absolute: they are relative to the profile's own folder."""
    hints = get_type_hints(options)
    return {key: _placed(hints.get(key), value, folder) for key, value in table.items()}


def _placed(hint: Any, value: object, folder: Path) -> object:
    if isinstance(value, str) and hint in {Path, Path | None}:
        return str(folder / Path(value).expanduser())
    if isinstance(value, Mapping) and isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _absolute(hint, cast("Table", value), folder)
    if isinstance(value, list) and get_args(hint):
        return [_placed(get_args(hint)[0], one, folder) for one in cast("list[object]", value)]
    return cast("object", value)


def _default(field: dataclasses.Field[Any]) -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        return as_table(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("Sequence[object]", value)]
    return value
