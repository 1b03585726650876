"""A shipped module that is a folder, with its files for unit tests to look into."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.loading import Modules


def guest_module(name: str) -> type[Guest[Any]]:
    """The class that the daemon would take."""
    return Modules().guest(name)


def files_of(kind: str, name: str) -> Mapping[str, ModuleType]:
    """The files of a module's folder, by their names, as the loader imported them."""
    guest_module(name)
    prefix = f"vcl_modules.{kind}.{name}."
    return {known.removeprefix(prefix): module for known, module in sys.modules.items() if known.startswith(prefix)}
