"""From an INSERT to its user's first command on a machine that had to be loaded, beside the same guest's bare boot."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from benchmarks.bare import a_bare
from benchmarks.real import Load, a_real_bench, end_all, load
from benchmarks.table import Row
from vcl_provision.model.steps import Step


@dataclass(frozen=True, kw_only=True)
class Guest:
    """What is booted how often in turns, bare and by a load; `to_reach` and `before` are ratios of the two."""

    image: str
    called: str
    pairs: int
    to_reach: str
    before: str = ""
    bare_before: str = ""


GUESTS = (
    Guest(image="small", called="small guest", pairs=5, to_reach="1.5"),
    Guest(image="debian12", called="Debian with systemd", pairs=3, to_reach="1.15", before="7.9", bare_before="18.6"),
)


def run() -> list[Row]:
    return [row for guest in GUESTS for row in _rows(guest, _measured(guest))]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Seconds of two bare boots, each to a first command over ssh, and the load beside them."""

    user: float
    root: float
    load: Load


def _measured(guest: Guest) -> list[Turn]:
    """In turns, so that what others do on the machine meanwhile falls on all of them."""
    turns: list[Turn] = []
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(a_real_bench(guest.image))
        accelerator = str(lab.bench.lab.overrides["accelerator"])
        bare = stack.enter_context(a_bare(guest.image, accelerator=accelerator))
        for _ in range(guest.pairs):
            user, root = bare.to_the_users_command(), bare.to_roots_command()
            turns.append(Turn(user=user, root=root, load=load(lab)))
            end_all(lab)
    return turns


def _rows(guest: Guest, turns: Sequence[Turn]) -> list[Row]:
    to_user = [turn.load.whole / turn.user for turn in turns]
    to_root = [turn.load.whole / turn.root for turn in turns]
    parts = [_parts(turn.load) for turn in turns]
    return [
        Row(f"{guest.called}: load over bare boot, median", f"{median(to_user):.2f}", guest.to_reach),
        Row(f"  of {guest.pairs} pairs", _listed(to_user)),
        Row("  over a bare boot to root's command, median", f"{median(to_root):.2f}", "", guest.before),
        Row(f"  of {guest.pairs} pairs", _listed(to_root)),
        Row("  bare boot to a user's first command over ssh, s", f"{median(turn.user for turn in turns):.1f}"),
        Row("  bare boot to root's, s", f"{median(turn.root for turn in turns):.1f}", "", guest.bare_before),
        Row("  load: INSERT to the user's first command, s", f"{median(turn.load.whole for turn in turns):.1f}"),
        *(Row(f"    {name}", f"{median(part[name] for part in parts):.2f}") for name in parts[0]),
    ]


def _listed(ratios: Sequence[float]) -> str:
    return " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))


def _parts(load: Load) -> dict[str, float]:
    """Seconds of each part, which together are the whole."""
    moments = [
        ("until the handler begins", load.steps[Step.STATUSCHECK]),
        ("disk, first-boot disk and description are made", load.steps[Step.STARTVM]),
        ("libvirt starts QEMU", load.steps[Step.BOOTING]),
        ("the guest boots, until it lets us in", load.steps[Step.MACHINEBOOTED]),
        ("our turn", _began(load, "prepare")),
        ("prepare: users may log in; firewall closed; name, time", load.commands["prepare"][0]),
        ("our turn", _began(load, "admit")),
        ("admit: account, firewall opened", load.commands["admit"][0]),
        ("our turn", load.told),
        ("the user's login and command", load.came),
    ]
    parts: dict[str, float] = {}
    before = load.began
    for name, moment in moments:
        parts[name] = parts.get(name, 0.0) + (moment - before).total_seconds()
        before = moment
    return parts


def _began(load: Load, command: str) -> datetime:
    ended, seconds = load.commands[command]
    return ended - timedelta(seconds=seconds)
