"""What starts the machine, laid beside its disks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vcl_provision.images.builder.conversion import INITRD, KERNEL, disk_name, read_facts
from vcl_provision.images.builder.deploy.built_machine import BuiltMachine, DirectBoot, kernel_drivers
from vcl_provision.images.builder.deploy.tarball import write_tarball
from vcl_provision.images.builder.deploy.targets import Target, check_targets, lay
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.builder.host import BuildHost
from vcl_provision.images.builder.layouts import root_word
from vcl_provision.images.builder.plan import Plan, identity_of
from vcl_provision.images.formats.words import DiskFormat

Say = Callable[[str], None]


def lay_what_starts(plan: Plan, guest: Path, folder: Path, place: Path, *, host: BuildHost, say: Say) -> str:
    """Lays what was asked for into the folder with the disks, which will be at `place`; returns how it is started."""
    told: list[str] = []
    moment = int(str(read_facts(guest)["moment"]))
    for target in check_targets(plan.spec.output.deployments, plan.spec.boot):
        say(str(target))
        if target is Target.TARBALL:
            archive = folder / f"{plan.spec.system.hostname}.tar.gz"
            told.append(
                write_tarball(guest / "root", archive, moment=moment, channel=host.channel, patience=host.patience)
            )
        else:
            said = lay(
                target,
                _machine(plan, guest, folder),
                folder,
                place=place,
                root=guest / "root",
                moment=moment,
                channel=host.channel,
                patience=host.patience,
            )
            told.append(said)
    return "\n".join(told)


def _machine(plan: Plan, guest: Path, folder: Path) -> BuiltMachine:
    spec = plan.spec
    primary = spec.output.formats[0]
    boot = None
    if spec.boot is Loader.DIRECT:
        line = plan.distribution.command_line(spec, root_word(spec, plan.guest))
        initrd = folder / INITRD
        boot = DirectBoot(kernel=folder / KERNEL, initrd=initrd if initrd.exists() else None, command_line=line)
    return BuiltMachine(
        name=spec.system.hostname,
        disks=[folder / disk_name(number, primary) for number in range(len(plan.layout.disks))],
        disk_format=DiskFormat(primary),
        loader=spec.boot,
        memory_mb=spec.machine.memory_mb,
        cpus=spec.machine.cpus,
        boot=boot,
        os=str(read_facts(guest)["os"]),
        mac=spec.network.mac,
        drivers=kernel_drivers(guest / "root"),
        identity=identity_of(plan),
    )
