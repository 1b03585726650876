"""Real loads, each by another carrier of what the machine is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from a_pull import Heard, MemoryOffers, OfferedInMemory
from fix_libvirt import LibvirtBench

from vcl_provision.daemon.pull import PullServer
from vcl_provision.drivers.provisioner import LocalLab
from vcl_provision.model.faults import Refused, TimedOut
from vcl_provision.model.lab import Computer
from vcl_provision.model.states import Power

CARRIERS = ("vfat", "bootparams", "fw_cfg", "smbios")
PARAMETERS = {"greeting": "it's $(id), \"quoted\"\nand two lines", "site.zone": "b"}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    bench: LibvirtBench
    by: Mapping[str, Computer]

    def says(self, carrier: str, *argv: str) -> str:
        return self.bench.run(self.by[carrier], *argv)


def load(bench: LibvirtBench, number: int, carrier: str, **ports: Any) -> Computer:
    overrides = {**bench.lab.overrides, "first_boot": carrier}
    computer, firstboot = bench.firstboot(bench.computer(number, host=bench.host(overrides=overrides)))
    firstboot = replace(firstboot, parameters={**PARAMETERS, "carrier": carrier})
    bench.provisioner(computer, **ports).load(computer, bench.revision(), firstboot)
    return computer


@pytest.fixture(scope="module")
def loaded(libvirt_lab: LocalLab) -> Iterator[Loaded]:
    """A machine by each carrier: two at a time, which is what two processors boot without waiting."""
    bench = LibvirtBench(lab=libvirt_lab)
    with ThreadPoolExecutor(2) as pool:
        machines = [pool.submit(load, bench, number, carrier) for number, carrier in enumerate(CARRIERS)]
        by = {carrier: machine.result() for carrier, machine in zip(CARRIERS, machines, strict=True)}
    yield Loaded(bench=bench, by=by)
    bench.clear()
    bench.kept.close()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_machine_is_told_who_it_is(loaded: Loaded, carrier: str) -> None:
    """That it answers with the host key which we pinned, to the management key, is how a load ends."""
    assert loaded.says(carrier, "hostname").strip() == loaded.by[carrier].name
    told = {**PARAMETERS, "carrier": carrier}
    assert {name: loaded.says(carrier, "cat", f"/etc/vcl/parameters/{name}") for name in told} == told
    mounts = loaded.says(carrier, "cat", "/proc/mounts")
    assert not [kind for kind in (" vfat ", " ext2 ", " iso9660 ") if kind in mounts]


@pytest.mark.parametrize(
    ("carrier", "file"),
    [("vfat", "seed.img"), ("bootparams", "seed.img"), ("fw_cfg", "firstboot.conf"), ("smbios", "firstboot.conf")],
)
def test_what_is_secret_lies_where_only_the_hypervisor_reads_it(loaded: Loaded, carrier: str, file: str) -> None:
    bench, computer = loaded.bench, loaded.by[carrier]
    assert bench.files(computer) == ["console.log", "disk.qcow2", file]
    assert bench.path(computer, file).stat().st_mode & 0o777 == 0o600
    with bench.connection() as connection:
        description = connection.lookupByName(computer.name).XMLDesc()
    (command,) = [said for said in _commands() if str(bench.path(computer, "disk.qcow2")) in said]
    for seen in (description, command):
        assert "PRIVATE KEY" not in seen
        assert ("vcl/hostname" in seen) is (carrier == "smbios")


def _commands() -> Iterator[str]:
    """Of all that runs here: what anybody can read."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "cmdline").read_text(errors="replace")


def test_a_machine_that_is_removed_leaves_no_carrier_behind(loaded: Loaded) -> None:
    """The last of those that use the machines."""
    bench = loaded.bench
    for computer in loaded.by.values():
        bench.provisioner(computer).control_VM(computer, Power.REMOVE)
        assert bench.files(computer) == []


@dataclass(frozen=True, kw_only=True)
class Fetching:
    bench: LibvirtBench
    offers: MemoryOffers
    heard: Heard
    base: str

    @property
    def port(self) -> OfferedInMemory:
        return OfferedInMemory(offers=self.offers, base=self.base)


@pytest.fixture
def fetching(libvirt_bench: LibvirtBench) -> Iterator[Fetching]:
    """A server on this machine's address in the guests' network."""
    slot = libvirt_bench.lab.slots[1].private_address
    offers = MemoryOffers()
    heard = Heard()
    address = IPv4Network(f"{slot}/24", strict=False)[1]
    server = PullServer(f"{address}:0", offers, hear=heard)
    server.start()
    yield Fetching(bench=libvirt_bench, offers=offers, heard=heard, base=f"http://{server.address}")
    server.stop()


def test_a_machine_fetches_what_it_is_told(fetching: Fetching) -> None:
    bench = fetching.bench
    computer = load(bench, 1, "pull", pull=fetching.port)
    assert bench.run(computer, "cat", "/etc/vcl/parameters/greeting") == PARAMETERS["greeting"]
    assert [(address, answer.said) for address, answer in fetching.heard.answers] == [
        (str(computer.private_address), "fetched bootparams.conf")
    ]
    assert bench.files(computer) == ["console.log", "disk.qcow2"]
    # Booted again it does not ask again, and is who it was.
    bench.run(computer, "/usr/lib/vcl/first-boot")
    assert bench.run(computer, "hostname").strip() == computer.name
    assert len(fetching.heard.answers) == 1


def test_a_machine_that_is_refused_is_nobody(fetching: Fetching) -> None:
    """Its load fails: it answers with a key of its own, if at all."""
    fetching.offers.now = 1e9
    with pytest.raises((Refused, TimedOut)):
        load(fetching.bench, 1, "pull", pull=fetching.port)
    assert fetching.heard.said[0] == "was refused: its token has expired"
