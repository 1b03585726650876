"""Layouts in YAML, read node by node: each value has its line, and nothing is made but what a layout knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import yaml

from vcl_provision.images.builder.disks.layout import Disk, FileSystem, Partition, Table
from vcl_provision.images.builder.disks.sizes import size_bytes
from vcl_provision.model.faults import Refused
from vcl_provision.model.options import nearest

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Lines = list[tuple[int, Sequence[int]]]
Wrong = list[tuple[int, str]]

_VOLUME = ("mount", "size", "filesystem", "label", "options", "features")
_PARTITION = (*_VOLUME, "group", "volumes")
_DISK = ("table", "size", "partitions")


def read_disks(text: str, disks: list[Disk], lines: Lines, wrong: Wrong) -> None:
    """Adds what the text says: disks, the lines of each and of its partitions, and what is wrong where."""
    try:
        node = yaml.SafeLoader(text).get_single_node()
    except yaml.MarkedYAMLError as no:
        at = no.problem_mark or no.context_mark
        wrong.append((at.line + 1 if at else 1, f"no YAML: {no.problem or no}"))
        return
    except yaml.YAMLError as no:
        wrong.append((1, f"no YAML: {' '.join(str(no).split())}"))
        return
    except RecursionError:
        wrong.append((1, "nested too deeply to be a layout"))
        return
    reader = _Reader(wrong)
    whole = reader.fields(node, ("disks",), "a layout")
    for each in reader.items(whole.get("disks"), node, "disks"):
        _read_disk(reader, each, disks, lines)


def _read_disk(reader: _Reader, node: yaml.Node, disks: list[Disk], lines: Lines) -> None:
    said = reader.fields(node, _DISK, "a disk")
    partitions = reader.items(said.get("partitions"), node, "partitions")
    disks.append(
        Disk(
            table=reader.value(said.get("table"), _one_of(Table, "partition table"), Table.GPT),
            size=reader.value(said.get("size"), size_bytes, None),
            partitions=[_partition(reader, each, _PARTITION, "a partition") for each in partitions],
        )
    )
    lines.append((_line(node), [_line(each) for each in partitions]))


def _partition(reader: _Reader, node: yaml.Node, known: Sequence[str], what: str) -> Partition:
    said = reader.fields(node, known, what)
    if "size" not in said:
        reader.complain(node, f"{what} needs a size, or `size: rest`")
    return Partition(
        mount=reader.value(said.get("mount"), str, ""),
        size=reader.value(said.get("size"), _size_or_rest, None),
        filesystem=reader.value(said.get("filesystem"), _one_of(FileSystem, "file system"), FileSystem.EXT4),
        label=reader.value(said.get("label"), str, ""),
        options=[reader.value(each, str, "") for each in reader.items(said.get("options"), None, "options")],
        features=[reader.value(each, str, "") for each in reader.items(said.get("features"), None, "features")],
        group=reader.value(said.get("group"), str, ""),
        volumes=[
            _partition(reader, each, _VOLUME, "a logical volume")
            for each in reader.items(said.get("volumes"), None, "volumes")
        ],
    )


class _Reader:
    """Takes nodes apart; what is wrong is remembered, and reading goes on with what is left."""

    def __init__(self, wrong: Wrong) -> None:
        self._wrong = wrong
        self._taken: set[int] = set()

    def complain(self, node: yaml.Node | None, said: str) -> None:
        self._wrong.append((_line(node) if node else 1, said))

    def fields(self, node: yaml.Node | None, known: Iterable[str], what: str) -> Mapping[str, yaml.Node]:
        """The fields of a map; only known ones, each once."""
        if not isinstance(node, yaml.MappingNode) or self._is_alias(node):
            self.complain(node, f"{what} is a map with {', '.join(known)}, written out")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if name not in known:
                self.complain(key, f"{what} has no field {name!r}{nearest(name, known)}")
            elif name in found:
                self.complain(key, f"{name} is there twice")
            else:
                found[name] = value
        return found

    def items(self, node: yaml.Node | None, needed_in: yaml.Node | None, what: str) -> Sequence[yaml.Node]:
        """The entries of a list; of none if it is not there, which is wrong if it is needed in a node."""
        if isinstance(node, yaml.SequenceNode) and not self._is_alias(node):
            return list(node.value)
        if node is not None:
            self.complain(node, f"{what} are a list, written out")
        elif needed_in is not None:
            self.complain(needed_in, f"{what} are missing")
        return []

    def _is_alias(self, node: yaml.Node) -> bool:
        """An alias is the same node again. Refused: a few lines of them could stand for millions of partitions."""
        seen = id(node) in self._taken
        self._taken.add(id(node))
        return seen

    def value(self, node: yaml.Node | None, read: Callable[[str], T], otherwise: T) -> T:
        """A scalar, read by `read` from its text as it stands there."""
        if node is None:
            return otherwise
        if not isinstance(node, yaml.ScalarNode):
            self.complain(node, "a word is expected here, not a list or map")
            return otherwise
        try:
            return read(str(node.value))
        except Refused as no:
            self.complain(node, no.said)
            return otherwise


def _size_or_rest(text: str) -> int | None:
    return None if text == "rest" else size_bytes(text)


def _one_of(words: type[E], what: str) -> Callable[[str], E]:
    def read(text: str) -> E:
        try:
            return words(text)
        except ValueError:
            there = ", ".join(words)
            raise Refused(f"there is no {what} {text!r}: {there}") from None

    return read


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
