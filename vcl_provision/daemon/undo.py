"""Plays outstanding effects backwards: the same code for reclaim, failure, cancel and recovery after a crash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vcl_provision.daemon.steady import SteadyDatabase
from vcl_provision.drivers.driver import Driver
from vcl_provision.model.faults import Cancelled, ProvisionError
from vcl_provision.model.reservation import Claim, Effect
from vcl_provision.store import effects

ModuleOf = Callable[[str, str], Driver[Any]]
"""(kind, name) -> a module made for this piece of work."""


def play_backwards(database: SteadyDatabase, claim: Claim, outstanding: Sequence[Effect], module_of: ModuleOf) -> None:
    """Undoes the newest first, each only while the lease is surely held.

    What was inside a machine that is removed goes with it and is not played. Raises what the module raised, Cancelled;
    undoing is idempotent, so the next try plays all of them again.
    """
    outside = [effect for effect in outstanding if effect.kind != "os"]
    machine_goes = any(effect.scope == "computer" for effect in outside)
    to_play = outside if machine_goes else outstanding
    for effect in to_play:
        _undo(database, effect, module_of)
    inside = [effect.id for effect in outstanding if effect not in to_play]
    undone = [effect.id for effect in to_play] + inside
    database.ask(lambda conn: effects.mark_undone(conn, claim, undone))


def _undo(database: SteadyDatabase, effect: Effect, module_of: ModuleOf) -> None:
    if database.stop.is_set():
        raise Cancelled
    try:
        module_of(effect.kind, effect.module).undo(effect.action, effect.arguments)
    except ProvisionError as error:
        said = error.said
        database.ask(lambda conn: effects.undo_failed(conn, effect.id, said))
        raise
