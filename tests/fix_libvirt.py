"""A private libvirt for the tests: its own daemon, network and slots, gone when this process is, however it ends."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from vcl_provision.channels.guests import GuestConnections
from vcl_provision.channels.keys import KeyPair, new_host_key, new_key
from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.kept import KeptThings
from vcl_provision.drivers.finding import find
from vcl_provision.drivers.importing import import_source
from vcl_provision.drivers.provisioner import LocalLab
from vcl_provision.drivers.task import Task
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.images.repository import ImageDescriptor, blob_of, open_repository
from vcl_provision.images.repository.loose import read_loose
from vcl_provision.model.lab import Computer, Revision, VmHost, VmProfile
from vcl_provision.model.states import ComputerKind, ComputerState
from vcl_provision.model.steps import Step

if TYPE_CHECKING:
    import libvirt

LAB = "0b6e9b52-6f0a-4c3e-9d5f-4f2f6c1d2e3a"


def libvirt_module(part: str = "") -> ModuleType:
    """The module as vcld imports it, or one of its files."""
    module = import_source(find([])["provisioning", "libvirt"])
    assert isinstance(module, ModuleType)
    return getattr(module, part) if part else module


def libvirt_binding() -> Any:
    """libvirt for Python, which a machine that runs only other tests need not have."""
    return libvirt_module("binding").libvirt


class Remembered:
    """Effects and progress in memory. `at` is called with each step as it is said."""

    def __init__(self, at: Callable[[Step], object] | None = None) -> None:
        self.effects: list[tuple[str, dict[str, object]]] = []
        self.steps: list[Step] = []
        self._at = at

    def record(self, action: str, *, scope: str, **arguments: object) -> None:
        self.effects.append((action, arguments))

    def say(self, step: Step, info: str = "") -> None:
        self.steps.append(step)
        if self._at:
            self._at(step)


class ThreadLocks:
    """Locks by name among the threads of this process."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.Lock] = {}

    @contextlib.contextmanager
    def hold(self, name: str, *, patience: Patience) -> Generator[None]:
        lock = self._locks.setdefault(name, threading.Lock())
        patience.until(lambda: lock.acquire(blocking=False), f"the lock {name}", every=0.02)
        try:
            yield
        finally:
            lock.release()

    together = hold  # one at a time is right for those too who need not be alone


@dataclass(kw_only=True)
class LibvirtBench:
    """A local lab, and everything that a piece of work on it needs."""

    lab: LocalLab
    key: KeyPair = field(default_factory=new_key)
    kept: KeptThings = field(default_factory=KeptThings)
    locks: ThreadLocks = field(default_factory=ThreadLocks)

    def __post_init__(self) -> None:
        self.guests = GuestConnections(key=self.key)

    def host(self, **changes: Any) -> VmHost:
        """The lab's VM host; changes are the profile's, or its address."""
        address = changes.pop("address", self.lab.host_address)
        profile = VmProfile(
            name="local",
            repository_path=self.lab.repository_path,
            datastore_path=self.lab.datastore_path,
            vm_path=self.lab.vm_path,
            network=self.lab.network,
            overrides=self.lab.overrides,
        )
        profile = replace(profile, **changes)
        return VmHost(id=1, name="localhost", address=address, profile=profile, provisioning_module="libvirt")

    def computer(self, number: int = 0, **changes: Any) -> Computer:
        """The computer of a slot, as it is when its load begins: with the host key that it is to get."""
        slot = self.lab.slots[number]
        computer = Computer(
            id=number + 1,
            name=slot.name,
            kind=ComputerKind.VIRTUALMACHINE,
            state=ComputerState.RELOADING,
            provisioning_module="libvirt",
            private_address=ip_address(slot.private_address),
            mac=slot.mac,
            ram_mb=192,
            host=self.host(),
        )
        return replace(computer, **changes)

    def path(self, computer: Computer, kind: str) -> Path:
        """One of the computer's files."""
        return Path(self.lab.vm_path, f"vcl_{LAB}_{computer.name}.{kind}")

    def revision(self, name: str = "small-v1", number: int = 1) -> Revision:
        return Revision(id=number, image_id=1, image="small", revision=number, name=name, os="small", os_module="linux")

    def firstboot(self, computer: Computer) -> tuple[Computer, FirstBoot]:
        """A new identity, and the computer with its public half."""
        host_key = new_host_key()
        firstboot = FirstBoot(
            instance=os.urandom(8).hex(),
            hostname=computer.name,
            host_key=host_key.public,
            host_key_private=host_key.private,
            management_keys=[self.key.public],
        )
        return replace(computer, host_key=host_key.public), firstboot

    def provisioner(self, computer: Computer, remembered: Remembered | None = None, **ports: Any) -> Any:
        """The module, made for one piece of work on this computer; with capabilities that no contract has together.

        `ports` replace parts of its task.
        """
        remembered = remembered or Remembered()
        task = Task(
            owner=f"vcl:{LAB}:{computer.name}",
            computer=computer,
            patience=Patience(120),
            effects=remembered,
            progress=remembered,
            local=LocalChannel(),
            guests=self.guests,
            kept=self.kept,
            locks=self.locks,
        )
        module = libvirt_module().MODULE
        return module(module.Options(), replace(task, **ports))

    def load(self, computer: Computer, revision: Revision | None = None) -> Computer:
        """Loads it; returns the computer as it is recorded then."""
        computer, firstboot = self.firstboot(computer)
        self.provisioner(computer).load(computer, revision or self.revision(), firstboot)
        return computer

    def run(self, computer: Computer, *argv: str) -> str:
        """Runs a command inside, over the kept connection."""
        patience = Patience(30)
        return self.guests.channel(computer, patience=patience).run(argv, patience=patience).stdout

    @contextlib.contextmanager
    def connection(self) -> Generator[libvirt.virConnect]:
        """libvirt itself, to see what is really there."""
        connection = libvirt_binding().open(self.lab.host_address)
        try:
            yield connection
        finally:
            connection.close()

    def daemon(self) -> int:
        """The process id of libvirtd."""
        return int(Path(self.lab.vm_path).with_name("libvirt").joinpath("run/libvirtd.pid").read_text())

    def domains(self, named: str = "") -> list[str]:
        """Machines whose names begin so."""
        with self.connection() as connection:
            names = [domain.name() for domain in connection.listAllDomains()]
        return sorted(name for name in names if name.startswith(named))

    def files(self, computer: Computer) -> list[str]:
        """Kinds of the files that lie there for a computer."""
        found = Path(self.lab.vm_path).glob(f"*_{computer.name}.*")
        return sorted(file.name.partition(f"_{computer.name}.")[2] for file in found)

    def clear(self, *, but: str = "") -> None:
        """Nothing in any slot, but one."""
        self.guests.close()
        libvirt = libvirt_binding()
        with self.connection() as connection:
            for domain in connection.listAllDomains():
                if domain.name() != but:
                    with contextlib.suppress(libvirt.libvirtError):
                        domain.destroy()
                    with contextlib.suppress(libvirt.libvirtError):
                        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
            with contextlib.suppress(libvirt.libvirtError):
                pool = connection.storagePoolLookupByTargetPath(self.lab.vm_path)
                pool.refresh()
                for volume in pool.listAllVolumes():
                    if not (but and f"_{but}." in volume.name()):
                        volume.delete()


def put_in_repository(image: Path, repository: Path, name: str, **changes: Any) -> ImageDescriptor:
    """An image's folder as a revision: its files linked, so that it costs nothing. `changes` are the descriptor's."""
    there, (kind, _, number) = read_loose(image), name.rpartition("-v")
    descriptor = replace(there.descriptor, name=name, image=kind, revision=int(number), **changes)
    open_repository(repository).take_in(descriptor, there.files, patience=Patience(60))
    return descriptor


def spare_image(bench: LibvirtBench, folder: Path, name: str) -> ImageDescriptor:
    """A revision whose system disk is its own: the small guest's, one sector longer."""
    small = open_repository(bench.lab.repository_path)
    base, file = small.get("small-v1"), folder / f"{name}.disk"
    source = small.path_of(base.system_disk.blob)
    assert source
    file.write_bytes(source.read_bytes() + os.urandom(512))
    blob = blob_of(file)
    disks = [replace(base.system_disk, blob=blob), *[disk for disk in base.disks if disk != base.system_disk]]
    spare = replace(base, name=name, revision=int(name.rpartition("-v")[2]), disks=disks)
    small.take_in(spare, {blob.sha256: file}, patience=Patience(60))
    return spare


@contextlib.contextmanager
def a_libvirt_lab(folder: Path, **images: Path) -> Generator[LocalLab]:
    """A libvirt of this process's own, with `images` by name, revision 1. Guests reach this machine, nothing else."""
    local_host = libvirt_module("local_host")
    try:
        lab = local_host.up(folder, 4, forward="", watched=os.getpid())
        for name, image in images.items():
            put_in_repository(image, Path(lab.repository_path), f"{name}-v1")
        yield lab
    finally:
        local_host.down(folder)


@pytest.fixture(scope="session")
def libvirt_lab(tmp_path_factory: pytest.TempPathFactory, small_image: Path) -> Iterator[LocalLab]:
    """The tests' own, the small guest in its repository."""
    if lacks := libvirt_module("local_host").missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("; ".join(lacks))
    with a_libvirt_lab(tmp_path_factory.mktemp("libvirt"), small=small_image) as lab:
        yield lab


@pytest.fixture
def libvirt_bench(libvirt_lab: LocalLab) -> Iterator[LibvirtBench]:
    """The lab with empty slots, but for the first: that belongs to `standing`."""
    bench = LibvirtBench(lab=libvirt_lab)
    yield bench
    bench.clear(but=libvirt_lab.slots[0].name)
    bench.kept.close()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A machine that is loaded and stays so."""

    bench: LibvirtBench
    computer: Computer
    provisioner: Any


@pytest.fixture(scope="module")
def standing(libvirt_lab: LocalLab) -> Iterator[Standing]:
    """One machine, loaded once, for all tests that leave it as they found it."""
    bench = LibvirtBench(lab=libvirt_lab)
    computer = bench.load(bench.computer(0))
    yield Standing(bench=bench, computer=computer, provisioner=bench.provisioner(computer))
    bench.clear()
    bench.kept.close()
