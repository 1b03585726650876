"""The commands of `vcl` are imported when they are used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from typer.main import get_group

from vcl_provision.faces.cli.later import HERE, Part
from vcl_provision.faces.cli.parts import LISTED, parts

ALL = list(parts())
MODULES = {part.module for part in ALL}
HEAVY = ("store", "images.builder", "images.repository", "images.formats", "daemon", "drivers", "faces.demo")
"""What listing the commands needs not."""


@pytest.mark.parametrize("part", ALL, ids=lambda part: part.name)
def test_what_is_said_of_a_command_is_what_it_says_itself(part: Part) -> None:
    command = part.command()
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == part.about
    assert command.rich_help_panel == part.panel


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_command_is_listed(module: str) -> None:
    there = set(get_group(import_module(f"{HERE}.{module}").app).commands)
    assert there == {part.name for part in ALL if part.module == module}
    assert LISTED


def test_listing_the_commands_imports_none_of_what_they_work_with() -> None:
    program = "import sys, vcl_provision.faces.cli.program; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(ran.stdout.split())
    assert [name for name in HEAVY if f"vcl_provision.{name}" in imported] == []
