"""From an INSERT to its user's first command on a machine that had to be loaded, beside the same guest's bare boot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from benchmarks.real import Load, a_real_bench, bare_boot, end_all, load
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
    return [row for guest in GUESTS for row in _rows(guest, *_measured(guest))]


def _measured(guest: Guest) -> tuple[list[float], list[Load]]:
    """In turns, so that what others do on the machine meanwhile falls on both."""
    boots: list[float] = []
    loads: list[Load] = []
    with a_real_bench(guest.image) as lab:
        accelerator = str(lab.bench.lab.overrides["accelerator"])
        for _ in range(guest.pairs):
            boots.append(bare_boot(guest.image, accelerator=accelerator))
            loads.append(load(lab))
            end_all(lab)
    return boots, loads


def _rows(guest: Guest, boots: Sequence[float], loads: Sequence[Load]) -> list[Row]:
    ratios = [load.whole / boot for boot, load in zip(boots, loads, strict=True)]
    parts = [_parts(load) for load in loads]
    return [
        Row(f"{guest.called}: load over bare boot, median", f"{median(ratios):.2f}", guest.to_reach, guest.before),
        Row(f"  of {guest.pairs} pairs", " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))),
        Row("  bare boot to a first command over ssh, s", f"{median(boots):.1f}", "", guest.bare_before),
        Row("  load: INSERT to the user's first command, s", f"{median(load.whole for load in loads):.1f}"),
        *(Row(f"    {name}", f"{median(part[name] for part in parts):.2f}") for name in parts[0]),
    ]


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
