"""conf/vcld.toml is the documentation of the settings: it must be all of them, as they are."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

from vcl_provision.daemon.settings import Settings, read_settings

CONF = Path(__file__).parents[2] / "conf" / "vcld.toml"


def test_the_shown_file_reads_as_the_defaults() -> None:
    assert replace(read_settings(CONF, environ={}), source=None) == Settings()


def test_the_shown_file_has_every_setting_and_no_other() -> None:
    shown = {(table, key) for table, keys in tomllib.loads(CONF.read_text()).items() for key in keys}
    assert shown == _settings() - {("modules", "options")}


def test_every_setting_has_a_sentence_above_it() -> None:
    lines = CONF.read_text().splitlines()
    keys = [(above, line) for above, line in pairwise(lines) if re.match(r"\w+ = ", line)]
    assert [line for above, line in keys if not above.startswith("# ")] == []


def _settings() -> set[tuple[str, str]]:
    hints: dict[str, Any] = get_type_hints(Settings)
    return {(name, one.name) for name, kind in hints.items() if is_dataclass(kind) for one in fields(kind)}
