"""Was anything ever double? Read from the history, which nobody but the simulator writes."""

from __future__ import annotations

from dataclasses import dataclass, field

from .world import Fact, World


@dataclass
class _Slot:
    """A slot as the history has brought it so far."""

    instance: str = ""
    accounts: set[str] = field(default_factory=set[str])
    opened: set[str] = field(default_factory=set[str])
    """Users who could have been in since the last load."""
    passed: set[str] = field(default_factory=set[str])
    """Loads that another load has taken the slot from."""


def doubles(world: World) -> list[str]:
    """One sentence for each time that a machine was given to two people, or was worked on by two loads; none is well.

    Two people: an account or an open firewall for one while another's is there, or on a machine that another could have
    been in since its last load. Two loads: one that still acts on the machine after another has taken the slot.
    """
    slots: dict[tuple[str, str], _Slot] = {}
    found: list[str] = []
    for fact in world.facts():
        slot = slots.setdefault((fact.host, fact.computer), _Slot())
        found += [f"{fact.at:.3f} {fact.computer}: {wrong}" for wrong in _wrong(slot, fact)]
        _goes_on(slot, fact)
    return found


def _wrong(slot: _Slot, fact: Fact) -> list[str]:
    wrong: list[str] = []
    if fact.instance in slot.passed and fact.what != "removed":
        wrong.append(f"{fact.what} by load {fact.instance} after load {slot.instance} took the slot")
    if fact.what not in {"user_added", "opened"}:
        return wrong
    present, before = slot.accounts - {fact.user}, slot.opened - slot.accounts - {fact.user}
    if present:
        wrong.append(f"{fact.what} for {fact.user} while {_names(present)} has an account")
    if before:
        wrong.append(f"{fact.what} for {fact.user} on a load that {_names(before)} could have been in")
    return wrong


def _goes_on(slot: _Slot, fact: Fact) -> None:
    match fact.what:
        case "disk_made":
            slot.passed |= {slot.instance} - {""}
            slot.instance, slot.accounts, slot.opened = fact.instance, set(), set()
        case "removed" | "cleaned":
            slot.accounts = set()
        case "user_added":
            slot.accounts |= {fact.user}
        case "user_deleted":
            slot.accounts -= {fact.user}
        case "opened":
            slot.opened |= {fact.user}
        case _:
            pass


def _names(users: set[str]) -> str:
    return ", ".join(sorted(users))
