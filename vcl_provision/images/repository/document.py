"""Descriptors as people read them: YAML of which only text, lists and maps are taken, so that it cannot run anything.

No scalar has a type of its own here: `version: 22.10` is the text 22.10 and `family: no` the text no. What has to be a
number or a moment is read as one by the field it is in. Tags, anchors, aliases, keys given twice, documents too large
or too deep are refused before anything is made of them. YAML 1.1 as PyYAML reads it: https://yaml.org/spec/1.1/.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar, cast

import yaml

from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.images.repository.descriptor import (
    Blob,
    DirectBoot,
    Disk,
    DiskRole,
    ImageDescriptor,
    OperatingSystem,
)
from vcl_provision.model.faults import Refused

FORMAT = "1"
LARGEST = 256 * 1024
"""Bytes: some thousand times what an image of two disks needs."""
DEEPEST = 8

_HINT = "mend the file, or remove the descriptor and add the image again"
T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


def parse(content: bytes) -> ImageDescriptor:
    """Raises Refused; the message completes "FILE ..." and says what is wrong, with its line where there is one."""
    said = _tree(content)
    if not isinstance(said, dict):
        raise Refused("holds no map of fields", _HINT)
    return _descriptor(_Fields(cast("Mapping[str, object]", said), ""))


def written(descriptor: ImageDescriptor) -> bytes:
    """The file's content: the same for the same descriptor."""
    return yaml.safe_dump(_plain(descriptor), sort_keys=False, allow_unicode=True, width=120).encode()


def _tree(content: bytes) -> object:
    if len(content) > LARGEST:
        raise Refused(f"is larger than {LARGEST} bytes", _HINT)
    try:
        text = content.decode("utf-8")
        _require_plain(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a loader that makes text, lists and maps only
    except UnicodeDecodeError as no:
        raise Refused(f"is no UTF-8 text: {no.reason} at byte {no.start}", _HINT) from no
    except yaml.YAMLError as no:
        raise Refused(f"is no YAML: {' '.join(str(no).split())}", _HINT) from no


def _require_plain(text: str) -> None:
    """Looks at the document piece by piece, before anything is built of it: its size in memory is then its length."""
    depth = 0
    for event in cast("Iterable[_Event]", yaml.parse(text, Loader=_Loader)):  # pyright: ignore[reportUnknownMemberType] - untyped
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise Refused(f"has an anchor or alias in line {line}", "write the value out: a descriptor needs none")
        if tag := getattr(event, "tag", None):
            raise Refused(f"has the tag {tag} in line {line}", "a descriptor is text, lists and maps")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise Refused(f"is nested deeper than {DEEPEST} levels in line {line}", _HINT)


class _Event(Protocol):
    start_mark: yaml.Mark


class _Loader(yaml.CBaseLoader):
    """Text, lists and maps; a map that gives a key twice is no map."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen = set[str]()
        for key, _ in node.value:
            word = str(key.value)
            if word in seen:
                raise Refused(f"gives {word} twice, again in line {key.start_mark.line + 1}", _HINT)
            seen.add(word)
        return super().construct_mapping(node, deep)


class _Fields:
    """One map of the document, asked field by field; `where` names it in messages. What is not asked for is unknown."""

    def __init__(self, said: Mapping[str, object], where: str) -> None:
        self._said = dict(said)
        self._where = where

    def text(self, name: str, otherwise: str | None = None) -> str:
        value = self._take(name, str, "text", otherwise)
        if "\0" in value:
            raise self._bad(name, value, "text")
        return value

    def number(self, name: str, otherwise: int | None = None) -> int:
        value = self.text(name, None if otherwise is None else str(otherwise))
        if not (value.isascii() and value.isdecimal() and len(value) <= 18):
            raise self._bad(name, value, "whole number")
        return int(value)

    def word(self, name: str, words: type[E]) -> E:
        value = self.text(name)
        if value not in set(words):
            raise self._bad(name, value, " or ".join(words))
        return words(value)

    def moment(self, name: str) -> datetime | None:
        value = self.text(name, "")
        try:
            return datetime.fromisoformat(value) if value else None
        except ValueError as no:
            raise self._bad(name, value, "moment such as 2026-11-21T10:00:00+00:00") from no

    def inner(self, name: str) -> _Fields:
        said = cast("Mapping[str, object]", self._take(name, dict, "map", None))
        return _Fields(said, f"{self._where}{name}.")

    def perhaps(self, name: str) -> _Fields | None:
        return self.inner(name) if name in self._said else None

    def each(self, name: str, make: Callable[[_Fields], T]) -> list[T]:
        made: list[T] = []
        for number, said in enumerate(cast("Sequence[object]", self._take(name, list, "list", None)), 1):
            if not isinstance(said, dict):
                raise self._bad(f"{name} {number}", said, "map")
            made.append(make(_Fields(cast("Mapping[str, object]", said), f"{self._where}{name} {number}: ")))
        return made

    def texts(self, name: str) -> dict[str, str]:
        inner = self.perhaps(name)
        return inner.all_texts() if inner else {}

    def all_texts(self) -> dict[str, str]:
        return {key: self.text(key) for key in list(self._said)}

    def end(self) -> None:
        """Raises Refused for a field that nobody asked for."""
        for name in self._said:
            raise Refused(
                f"has the unknown field {self._where}{name}", f"a newer version's? This one knows format {FORMAT}"
            )

    def _take(self, name: str, kind: type[T], called: str, otherwise: T | None) -> T:
        value = self._said.pop(name, otherwise)
        if value is None:
            raise Refused(f"has no {self._where}{name}", _HINT)
        if not isinstance(value, kind):
            raise self._bad(name, value, called)
        return value

    def _bad(self, name: str, value: object, called: str) -> Refused:
        shown = repr(value) if isinstance(value, str) else f"a {'map' if isinstance(value, dict) else 'list'}"
        return Refused(f"has {shown[:80]} as {self._where}{name}, which is no {called}", _HINT)


def _descriptor(said: _Fields) -> ImageDescriptor:
    number = said.text("format")
    if number != FORMAT:
        raise Refused(f"has format {number}, this version reads {FORMAT}", "it was written by another version")
    boot, minimum = said.perhaps("boot"), said.perhaps("minimum") or _Fields({}, "minimum.")
    descriptor = ImageDescriptor(
        name=said.text("name"),
        image=said.text("image"),
        revision=said.number("revision"),
        os=_system(said.inner("os")),
        disks=said.each("disks", _disk),
        boot=_boot(boot) if boot else None,
        min_memory_mb=minimum.number("memory_mb", 512),
        min_cpus=minimum.number("cpus", 1),
        parent=said.text("parent", ""),
        origin=said.text("origin", ""),
        captured_at=said.moment("captured_at"),
        recipe=said.text("recipe", ""),
        metadata=said.texts("metadata"),
    )
    minimum.end()
    said.end()
    return descriptor


def _system(said: _Fields) -> OperatingSystem:
    system = OperatingSystem(
        name=said.text("name"),
        family=said.text("family"),
        version=said.text("version", ""),
        variant=said.text("variant", ""),
        architecture=said.text("architecture"),
        module=said.text("module"),
    )
    said.end()
    return system


def _disk(said: _Fields) -> Disk:
    disk = Disk(
        name=said.text("name"),
        role=said.word("role", DiskRole),
        format=said.word("format", DiskFormat),
        virtual_bytes=said.number("virtual_bytes"),
        blob=_blob(said),
    )
    said.end()
    return disk


def _boot(said: _Fields) -> DirectBoot:
    kernel, initrd = said.inner("kernel"), said.perhaps("initrd")
    boot = DirectBoot(
        kernel=_blob(kernel), initrd=_blob(initrd) if initrd else None, command_line=said.text("command_line", "")
    )
    for each in (kernel, initrd, said):
        if each:
            each.end()
    return boot


def _blob(said: _Fields) -> Blob:
    return Blob(sha256=said.text("sha256"), bytes=said.number("bytes"), blake3=said.text("blake3", ""))


def _plain(descriptor: ImageDescriptor) -> dict[str, object]:
    """What is not said is left out: there is no word for nothing that could not be a text as well."""
    boot, captured = descriptor.boot, descriptor.captured_at
    return _said(
        {
            "format": FORMAT,
            "name": descriptor.name,
            "image": descriptor.image,
            "revision": descriptor.revision,
            "os": _said(asdict(descriptor.os)),
            "disks": [_plain_disk(disk) for disk in descriptor.disks],
            "boot": boot and _plain_boot(boot),
            "minimum": {"memory_mb": descriptor.min_memory_mb, "cpus": descriptor.min_cpus},
            "parent": descriptor.parent,
            "origin": descriptor.origin,
            "captured_at": captured and captured.isoformat(),
            "recipe": descriptor.recipe,
            "metadata": dict(descriptor.metadata),
        }
    )


def _plain_disk(disk: Disk) -> dict[str, object]:
    kind = {"name": disk.name, "role": str(disk.role), "format": str(disk.format)}
    return {**kind, **_plain_blob(disk.blob), "virtual_bytes": disk.virtual_bytes}


def _plain_boot(boot: DirectBoot) -> dict[str, object]:
    initrd = boot.initrd and _plain_blob(boot.initrd)
    return _said({"kernel": _plain_blob(boot.kernel), "initrd": initrd, "command_line": boot.command_line})


def _plain_blob(blob: Blob) -> dict[str, object]:
    return _said(asdict(blob))


def _said(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value not in (None, "", {})}
