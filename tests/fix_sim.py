"""A simulated hypervisor without a daemon: values, tasks and modules for tests of what drives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from modules.os.sim import SimGuest
from modules.provisioning.sim import Options, Sim, World
from vcl_provision.drivers import (
    Computer,
    ComputerKind,
    ComputerState,
    FirstBoot,
    NoOptions,
    Patience,
    Revision,
    Secret,
    Task,
    User,
    VmHost,
    VmProfile,
)
from vcl_provision.drivers.conformance.ports import (
    EagerGuests,
    EffectFile,
    FileLocks,
    NoChannel,
    ProcessKept,
    Steps,
    make_provisioner,
)

HOST_KEY = f"ssh-ed25519 {'A' * 68}"
ALICE = User(id=1, name="alice", affiliation="Local", keys=["ssh-ed25519 AAAA alice"])
BOB = User(id=2, name="bob", affiliation="Local", keys=["ssh-ed25519 AAAA bob"])
HOME = ip_address("192.0.2.7")
CAFE = ip_address("198.51.100.9")


@dataclass(kw_only=True)
class SimLab:
    """One simulated host; a computer is made by its name, and has its own effects."""

    folder: Path
    options: Options = field(default_factory=Options)
    clock: float = 1_000_000.0
    kept: ProcessKept = field(default_factory=ProcessKept)
    patience: Patience = field(default_factory=lambda: Patience(20))

    def __post_init__(self) -> None:
        self.world = World(self.folder / "sim.db", clock=lambda: self.clock, seed=self.options.seed)
        self.kept.get(f"sim:{self.folder / 'sim.db'}", lambda: self.world, World.close)

    @property
    def host(self) -> VmHost:
        profile = VmProfile(name="sim", repository_path="", datastore_path="", vm_path="")
        address = str(self.folder / "sim.db")
        return VmHost(id=1, name="simhost", address=address, profile=profile, provisioning_module="sim")

    def computer(self, name: str = "sim1", **changed: Any) -> Computer:
        computer = Computer(
            id=1,
            name=name,
            kind=ComputerKind.VIRTUALMACHINE,
            state=ComputerState.AVAILABLE,
            provisioning_module="sim",
            private_address=ip_address("10.213.0.2"),
            host=self.host,
            host_key=HOST_KEY,
        )
        return replace(computer, **changed)

    def revision(self, number: int = 1, image: str = "debian12") -> Revision:
        name = f"{image}-v{number}"
        return Revision(
            id=number, image_id=1, image=image, revision=number, name=name, os="debian12", os_module="sim", sudo=True
        )

    def firstboot(self, **changed: Any) -> FirstBoot:
        boot = FirstBoot(instance=str(uuid4()), hostname="sim1", host_key=HOST_KEY, host_key_private=Secret("none"))
        return replace(boot, **changed)

    def effects(self, computer: Computer) -> EffectFile:
        return EffectFile(self.folder / f"{computer.name}.effects")

    def sim(self, computer: Computer | None = None, owner: str = "") -> Sim:
        computer = computer or self.computer()
        task = Task(
            owner=owner or f"vcl:lab:{computer.name}",
            computer=computer,
            patience=self.patience,
            effects=self.effects(computer),
            progress=Steps(),
            local=NoChannel(),
            guests=EagerGuests(),
            kept=self.kept,
            locks=FileLocks(self.folder),
        )
        return cast("Sim", make_provisioner(Sim, self.options, task))

    def guest(self, computer: Computer | None = None) -> SimGuest:
        return SimGuest(NoOptions(), self.sim(computer).task)

    def loaded(self, computer: Computer | None = None, *, revision: Revision | None = None) -> Computer:
        """A computer with an image on it."""
        computer = computer or self.computer()
        revision = revision or self.revision()
        sim = self.sim(computer)
        sim.retrieve_image(revision, self.host)
        sim.load(computer, revision, self.firstboot())
        return computer


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[SimLab]:
    lab = SimLab(folder=tmp_path)
    yield lab
    lab.kept.close()
