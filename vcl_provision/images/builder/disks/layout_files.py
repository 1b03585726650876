"""Reads how disks are divided from a file: VMBuilder's part file, or YAML. Everything wrong is named with its line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vcl_provision.images.builder.disks.layout import Disk, FileSystem, Layout, Partition, Problem, problems
from vcl_provision.images.builder.disks.sizes import size_bytes
from vcl_provision.images.builder.disks.yaml_layout import read_disks
from vcl_provision.model.faults import Refused

REST = "rest"
_HINT = "see docs/disk-layouts.md"
_LARGEST = 256 * 1024
_NAMED = {"root": "/"}
_NOT_MOUNTED = {FileSystem.SWAP, FileSystem.NONE, FileSystem.BIOS_BOOT}
_PART_FILE_TYPES = [kind for kind in FileSystem if kind is not FileSystem.LVM]


@dataclass(kw_only=True)
class Written:
    """Disks as a file says them, and the lines where they and their partitions stand. `wrong`: line and what it is."""

    disks: list[Disk] = field(default_factory=list[Disk])
    lines: list[tuple[int, Sequence[int]]] = field(default_factory=list[tuple[int, Sequence[int]]])
    wrong: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])


def read_layout(path: Path) -> Layout:
    """The layout in a file: YAML if it is named so (.yaml, .yml), else VMBuilder's part file.

    Raises Refused with every line that is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as no:
        raise Refused(f"cannot read the layout file {path}: {no.strerror}") from no
    if len(content) > _LARGEST:
        raise Refused(f"{path} has more than {_LARGEST} bytes: it is no layout file")
    try:
        text = content.decode()
    except UnicodeDecodeError as no:
        raise Refused(f"{path} is no UTF-8 text: {no.reason} at byte {no.start}", _HINT) from no
    return parse_layout(text, name=str(path), is_yaml=path.suffix in {".yaml", ".yml"})


def parse_layout(text: str, *, name: str, is_yaml: bool) -> Layout:
    """As read_layout; `name` stands in messages."""
    written = Written()
    if is_yaml:
        read_disks(text, written.disks, written.lines, written.wrong)
    else:
        _read_part_file(text, written)
    wrong = written.wrong or [(_line(problem, written), problem.said) for problem in problems(written.disks)]
    if wrong:
        raise Refused("; ".join(f"{name}:{line}: {said}" for line, said in sorted(wrong)), _HINT)
    return Layout(disks=written.disks)


def _line(problem: Problem, written: Written) -> int:
    disk, partition = problem.place
    if disk >= len(written.lines):
        return 1
    first, lines = written.lines[disk]
    return first if partition is None else lines[partition]


def _read_part_file(text: str, written: Written) -> None:
    """Lines "mountpoint size", MiB if it has no unit; `---` begins the next disk; the root may be called `root`.

    More than VMBuilder had: a file system as third word, comments after #.
    """
    partitions: list[Partition] = []
    lines: list[int] = []
    for number, line in enumerate([*text.splitlines(), "---"], start=1):
        words = line.partition("#")[0].split()
        if words == ["---"]:
            if partitions or number <= len(text.splitlines()):
                written.disks.append(Disk(partitions=partitions))
                written.lines.append((lines[0] if lines else number, lines))
            partitions, lines = [], []
        elif words:
            try:
                partitions.append(_partition(words))
                lines.append(number)
            except Refused as no:
                written.wrong.append((number, no.said))


def _partition(words: Sequence[str]) -> Partition:
    if not 2 <= len(words) <= 3:
        raise Refused(f"a line has a mount point, a size and perhaps a file system, not {' '.join(words)!r}")
    place, size = _NAMED.get(words[0], words[0]), size_bytes(words[1])
    kinds = list(_kinds(place, words[2:]))
    if place.startswith("/"):
        return Partition(mount=place, size=size, filesystem=kinds[0])
    return Partition(size=size, filesystem=kinds[0])


def _kinds(place: str, third: Sequence[str]) -> Iterator[FileSystem]:
    if not place.startswith("/"):
        if place not in _NOT_MOUNTED:
            raise Refused(f"{place!r} is no mount point: an absolute path, root, {', '.join(sorted(_NOT_MOUNTED))}")
        yield FileSystem(place)
    for word in third:
        if word not in _PART_FILE_TYPES:
            raise Refused(f"there is no file system {word!r}: {', '.join(_PART_FILE_TYPES)}")
        yield FileSystem(word)
    yield FileSystem.EXT4
