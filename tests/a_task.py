"""A task for a module under test: the conformance kit's ports, real patience, real connections."""

from __future__ import annotations

from pathlib import Path

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.conformance.ports import EffectFile, FileLocks, ProcessKept, Steps
from vcl_provision.drivers.task import Guests, Task
from vcl_provision.model.lab import Computer


def effects_in(folder: Path) -> EffectFile:
    """The undo that a task of this folder wrote down."""
    return EffectFile(folder / "effects")


def a_task(folder: Path, computer: Computer, guests: Guests, patience: Patience) -> Task:
    return Task(
        owner="vcl:00000000-0000-0000-0000-000000000000:test",
        computer=computer,
        patience=patience,
        effects=effects_in(folder),
        progress=Steps(),
        local=LocalChannel(),
        guests=guests,
        kept=ProcessKept(),
        locks=FileLocks(folder),
    )
