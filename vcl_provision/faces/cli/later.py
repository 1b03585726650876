"""Commands that are imported when they are used: `vcl --help` names them all and needs none of what they work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_group

HERE = "vcl_provision.faces.cli"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A command, or a group of them: the module here that has it, and what the list of commands says of it."""

    name: str
    module: str
    panel: str
    about: str

    def command(self) -> Any:
        """The real one, as typer made it."""
        return get_group(import_module(f"{HERE}.{self.module}").app).commands[self.name]


def add(app: typer.Typer, part: Part) -> None:
    """The program has the command from now on, by its name."""

    class Later(TyperCommand):
        """Stands for the command until somebody means it: whose context it is, that command is invoked."""

        def make_context(self, *args: Any, **named: Any) -> Any:
            return part.command().make_context(*args, **named)

    nothing: Callable[[], None] = lambda: None  # noqa: E731 - typer wants a function, which is never called
    app.command(part.name, cls=Later, help=part.about, rich_help_panel=part.panel)(nothing)
