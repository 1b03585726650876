"""Every way to have a machine started, by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.deploy.built_machine import BuiltMachine
from vcl_provision.images.builder.deploy.foreign_disks import ForeignDisks
from vcl_provision.images.builder.deploy.hardware import BOTH, VIRTUALBOX, VMWARE, check_starts
from vcl_provision.images.builder.deploy.libvirt_domain import DEFAULT_NETWORK, write_domain
from vcl_provision.images.builder.deploy.start_script import write_start_script
from vcl_provision.images.builder.deploy.tarball import write_tarball
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.model.faults import Refused


class Target(StrEnum):
    """What a machine is started with. Plain disks (qcow2, raw) need none of these."""

    SCRIPT = "script"
    """A script that starts QEMU."""
    LIBVIRT = "libvirt"
    """A domain's description; see define_domain to have it defined."""
    VMWARE = "vmware"
    """.vmx and .vmdk for Workstation, Player, Fusion."""
    ESXI = "esxi"
    VIRTUALBOX = "virtualbox"
    OVA = "ova"
    TARBALL = "tarball"
    """The root folder; no disks."""


_OFFERS = {Target.VMWARE: VMWARE, Target.ESXI: VMWARE, Target.VIRTUALBOX: VIRTUALBOX, Target.OVA: BOTH}
_TOOLS: Mapping[Target, Mapping[str, str]] = {
    Target.TARBALL: {"tar": "tar", "gzip": "gzip"},
    **{target: {"qemu-img": "qemu-utils"} for target in _OFFERS},
}


def check_targets(targets: Sequence[str], loader: Loader) -> Sequence[Target]:
    """The targets that these words name, before anything is built for them.

    Raises Refused for a word that is none, two that would write the same files, a loader that one of them cannot start.
    """
    known = set(Target)
    for word in targets:
        if word not in known:
            raise Refused(f"there is no target {word!r}", f"there are: {', '.join(Target)}")
    chosen = [Target(word) for word in dict.fromkeys(targets)]
    if Target.VMWARE in chosen and Target.ESXI in chosen:
        raise Refused("vmware and esxi want different disks of the same name", "take one of them, or an ova for both")
    for target in chosen:
        if target in _OFFERS:
            check_starts(loader, _OFFERS[target])
    return chosen


def tools(targets: Sequence[Target]) -> Mapping[str, str]:
    """Programs that these targets take, each with the Debian package that has it: for require_host."""
    return {tool: package for target in targets for tool, package in _TOOLS.get(target, {}).items()}


def lay(
    target: Target,
    machine: BuiltMachine,
    folder: Path,
    *,
    place: Path,
    root: Path,
    moment: int,
    network: str = DEFAULT_NETWORK,
    overwrite: bool = False,
    channel: Channel,
    patience: Patience,
) -> str:
    """Lays what a target needs into the folder where the machine's disks are, and returns how it is started.

    `place` is where the folder will be in the end; `root` the root folder, for a tarball; `moment` the time of files in
    archives (seconds since 1970); `network` is libvirt's. Raises Refused, CommandFailed, TimedOut, Cancelled.
    """
    foreign = ForeignDisks(machine, folder, channel=channel, patience=patience)
    match target:
        case Target.SCRIPT:
            return write_start_script(machine, folder, overwrite=overwrite)
        case Target.LIBVIRT:
            return write_domain(
                machine, folder, place=place, network=network, channel=channel, patience=patience, overwrite=overwrite
            )
        case Target.VMWARE:
            return foreign.vmware(overwrite=overwrite)
        case Target.ESXI:
            return foreign.esxi(overwrite=overwrite)
        case Target.VIRTUALBOX:
            return foreign.virtualbox(overwrite=overwrite)
        case Target.OVA:
            return foreign.ova(moment=moment, overwrite=overwrite)
        case Target.TARBALL:
            archive = folder / f"{machine.name}.tar.gz"
            return write_tarball(root, archive, moment=moment, channel=channel, patience=patience, overwrite=overwrite)
