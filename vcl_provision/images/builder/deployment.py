"""The image in its place, with all that one needs to start it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.conversion import INITRD, KERNEL, disk_name, read_facts
from vcl_provision.images.builder.disks.placing import place
from vcl_provision.images.builder.layouts import root_word
from vcl_provision.images.builder.plan import Plan, image_digest
from vcl_provision.images.builder.profiles import write_profile
from vcl_provision.images.builder.targets import PROFILE, put_in_place
from vcl_provision.images.repository import (
    DirectBoot,
    Disk,
    DiskFormat,
    DiskRole,
    ImageDescriptor,
    OperatingSystem,
    blob_of,
)
from vcl_provision.images.repository.loose import write_loose

Say = Callable[[str], None]
_OF_THE_CACHE = {"facts.json", ".born"}


@dataclass(frozen=True, kw_only=True)
class Built:
    """What came of a build: the image's folder, its description, how to start it. None if devices were written to.

    `private_keys`: paths in the guest of those that all its machines will share.
    """

    folder: Path
    descriptor: ImageDescriptor | None
    how_to_start: str
    private_keys: Sequence[str] = ()


def deploy(
    plan: Plan,
    disks: Path,
    target: Path,
    *,
    start: Callable[[Path], str],
    channel: Channel,
    patience: Patience,
    say: Say,
) -> Built:
    """Lays the disks into the target, beside description, package list, profile and what was asked for to start it.

    `disks` stays as it is: whoever gave it removes it when this is done. `start` lays into the folder what starts the
    machine, and returns how.
    """
    described: list[ImageDescriptor] = []

    def fill(folder: Path) -> None:
        for file in sorted(disks.iterdir()):
            if file.name not in _OF_THE_CACHE:
                _lay(file, folder / file.name, channel, patience)
        told.append(start(folder))
        write_profile(plan.spec, folder / PROFILE)
        if not plan.spec.disks.devices:
            say("checksums")
            described.append(_describe(plan, disks, folder, target.name))
            write_loose(folder, described[0])

    told: list[str] = []
    put_in_place(target, fill)
    descriptor = described[0] if described else None
    shared = cast("Sequence[str]", read_facts(disks)["private_keys"])
    return Built(folder=target, descriptor=descriptor, how_to_start=told[0], private_keys=shared)


def _lay(source: Path, target: Path, channel: Channel, patience: Patience) -> None:
    """By a hard link where that can be: the bytes are not written twice, and a kill in between loses nothing."""
    try:
        os.link(source, target)
    except OSError:
        channel.run(("cp", "--sparse=always", "--reflink=auto", "--", str(source), str(target)), patience=patience)


def _describe(plan: Plan, disks: Path, folder: Path, name: str) -> ImageDescriptor:
    spec, facts = plan.spec, read_facts(disks)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    return ImageDescriptor(
        name=name,
        image=name,
        revision=1,
        os=OperatingSystem(
            name=str(facts["os"]),
            family=spec.distribution,
            version=_version(str(facts["os"]), spec.suite),
            variant=spec.purpose,
            architecture=spec.architecture,
        ),
        disks=_disks(plan, folder),
        boot=_boot(plan, folder) if (folder / KERNEL).exists() else None,
        min_memory_mb=spec.machine.memory_mb,
        min_cpus=spec.machine.cpus,
        recipe=image_digest(plan),
    )


def _disks(plan: Plan, folder: Path) -> list[Disk]:
    primary, disks = DiskFormat(plan.spec.output.formats[0]), list[Disk]()
    for number, placed in enumerate(place(plan.layout, seed=plan.guest)):
        file = folder / disk_name(number, primary)
        role = DiskRole.DATA if number else DiskRole.SYSTEM
        disks.append(Disk(name=file.stem, role=role, format=primary, blob=blob_of(file), virtual_bytes=placed.size))
    return disks


def _boot(plan: Plan, folder: Path) -> DirectBoot:
    initrd = folder / INITRD
    return DirectBoot(
        kernel=blob_of(folder / KERNEL),
        initrd=blob_of(initrd) if initrd.exists() else None,
        command_line=plan.distribution.command_line(plan.spec, root_word(plan.spec, plan.guest)),
    )


def _version(system: str, suite: str) -> str:
    """The number in the system's name for people; where it has none, the suite."""
    found = re.search(r"\d+(?:\.\d+)*", system)
    return found[0] if found else suite
