"""The machine that a module is tried on: described in a file, or a hypervisor that the module brings up itself."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

from vcl_provision.drivers.provisioner import LocalLab
from vcl_provision.model.faults import SettingsError
from vcl_provision.model.lab import Computer, ConnectMethod, ConnectPort, Revision, VmHost, VmProfile
from vcl_provision.model.options import Seconds, read_table
from vcl_provision.model.states import ComputerKind, ComputerState

NO_SUCH_IMAGE = "no-such-image"


@dataclass(frozen=True, kw_only=True)
class HostTable:
    """`[host]`: the VM host and its profile; `address` is the module's own word for how it is reached."""

    name: str = "host"
    address: str = ""
    repository_path: str = ""
    datastore_path: str = ""
    vm_path: str = ""
    network: str = ""
    credentials: str = ""
    overrides: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """`[image]`: one that the repository holds. With `capture_as`, a capture is tried, into a revision of that name.

    `ports` are those that its users come by, as `tcp/22`.
    """

    name: str = ""
    os: str = "linux"
    os_module: str = "linux"
    min_ram_mb: int = 512
    min_cpus: int = 1
    sudo: bool = False
    ports: Sequence[str] = ("tcp/22",)
    capture_as: str = ""


@dataclass(frozen=True, kw_only=True)
class ComputerTable:
    """`[[computer]]`: a slot that may be loaded and emptied at will. Two of them show more than one."""

    name: str = ""
    private_address: str = ""
    mac: str = ""
    ram_mb: int = 512
    cpus: int = 1
    kind: ComputerKind = ComputerKind.VIRTUALMACHINE


@dataclass(frozen=True, kw_only=True)
class SshTable:
    """`[ssh]`: how guests are entered; without `key` one is made for the run and given at load."""

    key: str = ""
    user: str = "root"
    port: int = 22


@dataclass(frozen=True, kw_only=True)
class Against:
    """What a module is tried on. `boot` is how long a load with its boot may take, `call` any other call.

    `options` are the module's own, as in `[modules.<name>]`. For an OS module `provisioner` names the provisioning
    module that loads its machine, `provisioner_options` that one's options.
    """

    host: HostTable = HostTable()
    image: ImageTable = ImageTable()
    computer: Sequence[ComputerTable] = ()
    ssh: SshTable = SshTable()
    boot: Seconds = 300.0
    call: Seconds = 60.0
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    provisioner: str = ""
    provisioner_options: Mapping[str, object] = field(default_factory=dict[str, object])

    def host_for(self, module: str) -> VmHost:
        table = self.host
        profile = VmProfile(
            name="conformance",
            repository_path=table.repository_path,
            datastore_path=table.datastore_path,
            vm_path=table.vm_path,
            network=table.network,
            overrides=table.overrides,
            credentials=table.credentials,
        )
        return VmHost(id=1, name=table.name, address=table.address, profile=profile, provisioning_module=module)

    def computers_for(self, module: str) -> list[Computer]:
        return [
            Computer(
                id=number,
                name=table.name,
                kind=table.kind,
                state=ComputerState.RELOADING,
                provisioning_module=module,
                private_address=ip_address(table.private_address),
                mac=table.mac,
                ram_mb=table.ram_mb,
                cpus=table.cpus,
                host=self.host_for(module) if table.kind is ComputerKind.VIRTUALMACHINE else None,
            )
            for number, table in enumerate(self.computer, 1)
        ]

    @property
    def revision(self) -> Revision:
        table = self.image
        return Revision(
            id=1,
            image_id=1,
            image=table.name.rpartition("-v")[0] or table.name,
            revision=1,
            name=table.name,
            os=table.os,
            os_module=table.os_module,
            min_ram_mb=table.min_ram_mb,
            min_cpus=table.min_cpus,
            sudo=table.sudo,
            connect_methods=[ConnectMethod(name="users", ports=[_port(word) for word in table.ports])],
        )

    @property
    def missing_revision(self) -> Revision:
        return replace(self.revision, id=99, image_id=99, image=NO_SUCH_IMAGE, name=f"{NO_SUCH_IMAGE}-v1")

    @property
    def captured_revision(self) -> Revision:
        return replace(self.revision, id=2, revision=2, name=self.image.capture_as)


def _port(word: str) -> ConnectPort:
    protocol, _, number = word.partition("/")
    if protocol not in {"tcp", "udp"} or not number.isdigit():
        raise SettingsError(f"image ports: {word!r} is no port; write it as 'tcp/22'")
    return ConnectPort(protocol=protocol, port=int(number))


def read_against(file: Path) -> Against:
    """The description in a TOML file. Raises SettingsError naming the file and the key."""
    try:
        table = tomllib.loads(file.read_text())
    except OSError as no:
        raise SettingsError(f"{file} cannot be read: {no.strerror}") from no
    except tomllib.TOMLDecodeError as wrong:
        raise SettingsError(f"{file} is no TOML: {wrong}") from wrong
    against = read_table(Against, table, where=str(file))
    if not against.computer or not against.image.name:
        raise SettingsError(f"{file} needs an [image] with a name and at least one [[computer]]")
    for word in against.image.ports:
        _port(word)
    for number, computer in enumerate(against.computer):
        _check_address(computer.private_address, f"{file} computer[{number}] private_address")
    return against


def _check_address(address: str, where: str) -> None:
    try:
        ip_address(address)
    except ValueError as wrong:
        raise SettingsError(f"{where} = {address!r}: give an IP address") from wrong


def against_lab(lab: LocalLab) -> Against:
    """The description of a hypervisor that was brought up here, with its first image and two of its slots."""
    image = lab.images[0]
    return Against(
        host=HostTable(
            name=lab.host_name,
            address=lab.host_address,
            repository_path=lab.repository_path,
            datastore_path=lab.datastore_path,
            vm_path=lab.vm_path,
            network=lab.network,
            overrides=lab.overrides,
        ),
        image=ImageTable(
            name=f"{image.name}-v1",
            os=image.os,
            os_module=image.os_module,
            min_ram_mb=image.min_ram_mb,
            sudo=image.sudo,
            capture_as=f"{image.name}-v2",
        ),
        computer=[
            ComputerTable(name=slot.name, private_address=slot.private_address, mac=slot.mac, ram_mb=image.min_ram_mb)
            for slot in lab.slots[:2]
        ],
    )
