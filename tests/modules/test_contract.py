"""Every shipped module keeps the contract, on its real counterpart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcl_provision.drivers.conformance import Against, Report, against_lab, check, check_file, subject
from vcl_provision.drivers.conformance.target import ImageTable
from vcl_provision.drivers.provisioner import LocalLab
from vcl_provision.model.shipped import shipped

MODULES = shipped("modules")


@pytest.fixture
def libvirt_against(libvirt_lab: LocalLab) -> Against:
    """Two slots of the tests' libvirt, no image on the host yet, and the guest that boots in seconds."""
    masters = f"{libvirt_lab.datastore_path}-of-the-contract"
    against = against_lab(replace(libvirt_lab, slots=libvirt_lab.slots[2:4], datastore_path=masters))
    image = ImageTable(name="small-v1", os="small", os_module="linux", min_ram_mb=192, sudo=True, capture_as="small-v9")
    computers = [replace(computer, ram_mb=192) for computer in against.computer]
    return replace(against, image=image, computer=computers, boot=120.0)


def insist(report: Report, *, not_applicable: set[str]) -> None:
    assert report.ok, str(report)
    assert {each.name for each in report.not_applicable} == not_applicable, str(report)


def test_the_simulated_hypervisor_keeps_the_contract() -> None:
    report = check_file(MODULES / "provisioning" / "sim")
    insist(report, not_applicable={"it knows the addresses", "it takes snapshots"})


def test_the_simulated_guest_keeps_the_contract() -> None:
    insist(check_file(MODULES / "os" / "sim.py"), not_applicable=set())


def test_libvirt_keeps_the_contract(libvirt_against: Against) -> None:
    report = check(subject(MODULES / "provisioning" / "libvirt"), libvirt_against)
    insist(report, not_applicable={"it runs commands inside"})


def test_the_linux_guest_keeps_the_contract(libvirt_against: Against) -> None:
    against = replace(libvirt_against, provisioner="libvirt")
    insist(check(subject(MODULES / "os" / "linux"), against), not_applicable=set())


def test_every_shipped_module_is_checked_here() -> None:
    there = {f"{kind.name}/{file.stem}" for kind in MODULES.iterdir() if kind.is_dir() for file in kind.iterdir()}
    assert {name for name in there if "__" not in name} == {
        "provisioning/libvirt",
        "provisioning/sim",
        "os/linux",
        "os/sim",
    }
