from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest

from vcl_provision.model.faults import SettingsError
from vcl_provision.model.options import Seconds, read_table


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Options:
    binary: str = "qemu"
    folder: Path = Path("/srv")
    patience: Seconds = 300.0
    tries: int = 3
    ratio: float = 0.5
    fast: bool = False
    names: Sequence[str] = ()
    extra: Mapping[str, object] = field(default_factory=dict[str, object])
    colour: Colour = Colour.RED
    limit: int | None = None
    inner: Inner = Inner()


def read(**table: object) -> Options:
    return read_table(Options, table, where="vcld.toml: [modules.x]")


def refusal(**table: object) -> str:
    with pytest.raises(SettingsError) as refused:
        read(**table)
    return str(refused.value)


def test_an_empty_table_gives_the_defaults() -> None:
    assert read() == Options()


def test_each_type_is_read() -> None:
    options = read(
        folder="/tmp/x",
        ratio=2,
        fast=True,
        names=["a", "b"],
        extra={"a": 1},
        colour="blue",
        limit=4,
        inner={"depth": 2},
    )
    assert options.folder == Path("/tmp/x")
    assert (options.ratio, options.fast, options.names, options.extra) == (2.0, True, ("a", "b"), {"a": 1})
    assert (options.colour, options.limit, options.inner.depth) == (Colour.BLUE, 4, 2)


@pytest.mark.parametrize(
    ("given", "seconds"), [(5, 5.0), (0.5, 0.5), ("15 min", 900.0), ("300s", 300.0), ("250 ms", 0.25), ("2 h", 7200.0)]
)
def test_a_duration_is_a_number_of_seconds_or_has_its_unit(given: object, seconds: float) -> None:
    assert read(patience=given).patience == seconds


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    assert refusal(patiance=3) == "vcld.toml: [modules.x] has no setting 'patiance'; did you mean 'patience'?"


def test_an_unknown_key_near_none_is_answered_with_all_there_are() -> None:
    assert "there is binary, colour" in refusal(zzzzzz=3)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"tries": "3"}, "tries = '3': give a whole number"),
        ({"tries": True}, "tries = True: give a whole number"),
        ({"fast": 1}, "fast = 1: give true or false"),
        ({"names": "a"}, "names = 'a': give a list"),
        ({"names": ["a", 2]}, "names[1] = 2: give a text in quotes"),
        ({"colour": "green"}, "colour = 'green': give one of red, blue"),
        ({"patience": "15 minuten"}, "'minuten' is no unit of time; use ms, s, min, h, d"),
        ({"patience": "soon"}, "give a duration, as seconds or like '300 s', '15 min'"),
        ({"patience": -1}, "give a duration"),
        ({"inner": {"dept": 1}}, "inner has no setting 'dept'; did you mean 'depth'?"),
        ({"inner": 3}, "inner = 3: give a table"),
        ({"extra": 3}, "extra = 3: give a table"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_give(table: dict[str, object], said: str) -> None:
    assert said in refusal(**table)


def test_what_a_dataclass_refuses_by_itself_is_told_with_its_place() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Picky:
        port: int = 1

        def __post_init__(self) -> None:
            if self.port > 65535:
                raise ValueError("port ends at 65535")

    with pytest.raises(SettingsError, match=r"here: port ends at 65535"):
        read_table(Picky, {"port": 70000}, where="here")
