"""One thing that the kit tries: a function whose name is the item's and whose docstring says what passing it proves."""

from __future__ import annotations

import inspect
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from vcl_provision.drivers.conformance.report import Checked, Verdict
from vcl_provision.model.faults import ProvisionError

T = TypeVar("T")

Item = Callable[[T], None]


class Broken(Exception):
    """The module does not keep the contract: `said` is what was seen, `fix` what its author can do."""

    def __init__(self, said: str, fix: str = "") -> None:
        super().__init__(said)
        self.said = said
        self.fix = fix


class NotApplicable(Exception):
    """Cannot be tried with this module, or on this machine; says why."""


def insist(holds: object, said: str, fix: str = "") -> None:
    """Raises Broken unless it holds."""
    if not holds:
        raise Broken(said, fix)


def run_items(items: Sequence[Item[T]], bench: T, say: Callable[[Checked], None], *, at_most: float) -> list[Checked]:
    """Tries one after the other; after a call that never returned the rest is not tried. `say` hears each result."""
    results: list[Checked] = []
    stuck = False
    for item in items:
        result = _not_tried(item) if stuck else run_item(item, bench, at_most=at_most)
        stuck = stuck or result.why.startswith(_NEVER)
        say(result)
        results.append(result)
    return results


_NEVER = "a call did not return"


def _not_tried(item: Item[T]) -> Checked:
    proves = inspect.cleandoc(item.__doc__ or "")
    why = "not tried: an earlier call is still running"
    return Checked(name=name_of(item), proves=proves, verdict=Verdict.NOT_APPLICABLE, why=why)


def run_item(item: Item[T], bench: T, *, at_most: float) -> Checked:
    """Tries it, in a thread of its own, so that a call that never returns costs this item only."""
    checked = Checked(name=name_of(item), proves=inspect.cleandoc(item.__doc__ or ""), verdict=Verdict.PASSED)
    ended: list[Checked] = []
    thread = threading.Thread(target=lambda: ended.append(_tried(item, bench, checked)), daemon=True, name=checked.name)
    began = time.monotonic()
    thread.start()
    thread.join(at_most)
    seconds = time.monotonic() - began
    if ended:
        return replace(ended[0], seconds=seconds)
    return replace(
        checked,
        verdict=Verdict.FAILED,
        seconds=seconds,
        why=f"{_NEVER} for {seconds:.0f} s, though its patience had ended long before",
        fix="wait with task.wait_until and run with task.run: both end with the patience",
    )


def name_of(item: Item[T]) -> str:
    """Its function's name, as words."""
    return item.__name__.replace("_", " ")


def _tried(item: Item[T], bench: T, checked: Checked) -> Checked:
    try:
        item(bench)
    except NotApplicable as not_here:
        return replace(checked, verdict=Verdict.NOT_APPLICABLE, why=str(not_here))
    except Broken as broken:
        return replace(checked, verdict=Verdict.FAILED, why=broken.said, fix=broken.fix)
    except Exception as error:  # noqa: BLE001 - the module under test may raise anything
        return replace(checked, verdict=Verdict.FAILED, why=_told(error), fix=_advice(error))
    return checked


def _told(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (line {last.lineno} of {last.filename})"


def _advice(error: Exception) -> str:
    if isinstance(error, ProvisionError):
        return error.hint
    return "raise Transient, Refused, CommandFailed or TimedOut, which say what is to happen next"
