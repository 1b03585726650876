"""A machine's files for VMware and VirtualBox: what they register as it is, or import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.deploy.built_machine import BuiltMachine
from vcl_provision.images.builder.deploy.hardware import BOTH, VIRTUALBOX, VMWARE, described
from vcl_provision.images.formats.disks import convert
from vcl_provision.images.formats.exporting import SourceDisk, export_ova
from vcl_provision.images.formats.vbox import write_vbox
from vcl_provision.images.formats.vmx import write_vmx
from vcl_provision.images.formats.words import DiskFormat, VmdkVariant

_PORT_GROUP = "VM Network"


class ForeignDisks:
    """Converts a built machine's disks into a folder, each target's files named after the machine."""

    def __init__(self, machine: BuiltMachine, folder: Path, *, channel: Channel, patience: Patience) -> None:
        self._machine = machine
        self._folder = folder
        self._channel = channel
        self._patience = patience

    def vmware(self, *, overwrite: bool = False) -> str:
        """`NAME.vmx` and `NAME.vmdk` for Workstation, Player and Fusion. Returns how they are used."""
        settings = self._vmx(VmdkVariant.SPARSE, "nat", overwrite=overwrite)
        return f"open {settings.name} with VMware Workstation, Player or Fusion, or: vmrun start {settings.name}"

    def esxi(self, *, overwrite: bool = False) -> str:
        """`NAME.vmx`, `NAME.vmdk` and `NAME-flat.vmdk` for an ESXi host. Returns how they are used."""
        settings = self._vmx(VmdkVariant.ESX, _PORT_GROUP, overwrite=overwrite)
        name = self._machine.name
        return (
            f"copy {name}.vmx and the .vmdk files to /vmfs/volumes/DATASTORE/{name} on the host, then there: "
            f"vim-cmd solo/registervm /vmfs/volumes/DATASTORE/{name}/{settings.name}"
        )

    def virtualbox(self, *, overwrite: bool = False) -> str:
        """`NAME.vbox` and `NAME.vdi`. Returns how they are used."""
        machine = described(self._machine, VIRTUALBOX, network="nat")
        disks = list(self._converted(DiskFormat.VDI, overwrite=overwrite))
        settings = self._folder / f"{self._machine.name}.vbox"
        write_vbox(machine, disks, settings, overwrite=overwrite)
        name = self._machine.name
        return f"VBoxManage registervm {name}.vbox (its whole path), then: VBoxManage startvm {name}"

    def ova(self, *, moment: int, overwrite: bool = False) -> str:
        """`NAME.ova`, one archive that both import. `moment` is the time of the files in it. Returns how it is used."""
        machine = described(self._machine, BOTH, network=_PORT_GROUP)
        sources = [SourceDisk(place=disk, format=self._machine.disk_format) for disk in self._machine.disks]
        target = self._folder / f"{self._machine.name}.ova"
        export_ova(
            machine,
            sources,
            target,
            channel=self._channel,
            patience=self._patience,
            moment=moment,
            identity=self._machine.identity,
            overwrite=overwrite,
        )
        return f"import {target.name}: ovftool {target.name} vi://HOST, the vSphere client, or VBoxManage import"

    def _vmx(self, variant: VmdkVariant, network: str, *, overwrite: bool) -> Path:
        machine = described(self._machine, VMWARE, network=network)
        disks = list(self._converted(DiskFormat.VMDK, variant=variant, overwrite=overwrite))
        settings = self._folder / f"{self._machine.name}.vmx"
        write_vmx(machine, [disk.name for disk in disks], settings, overwrite=overwrite)
        return settings

    def _converted(
        self, disk_format: DiskFormat, *, variant: VmdkVariant = VmdkVariant.SPARSE, overwrite: bool
    ) -> Iterator[Path]:
        for number, disk in enumerate(self._machine.disks, start=1):
            own = f"-{number}" if number > 1 else ""
            target = self._folder / f"{self._machine.name}{own}.{disk_format}"
            convert(
                disk,
                self._machine.disk_format,
                target,
                disk_format,
                variant=variant,
                identity=self._machine.identity,
                overwrite=overwrite,
                channel=self._channel,
                patience=self._patience,
            )
            yield target
