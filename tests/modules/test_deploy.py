"""Files to start a machine with, made for real, and read again by who is to start it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from a_need import need, need_root
from a_tree import MOMENT, facts, fill_tree
from fix_libvirt import libvirt_binding

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.provisioner import LocalLab
from vcl_provision.images.builder.deploy.built_machine import BuiltMachine
from vcl_provision.images.builder.deploy.libvirt_domain import define_domain, domain_xml
from vcl_provision.images.builder.deploy.start_script import start_script
from vcl_provision.images.builder.deploy.targets import Target, lay
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.builder.disks.prepare import age
from vcl_provision.images.formats.disks import same_content, standalone
from vcl_provision.images.formats.importing import import_package
from vcl_provision.images.formats.machine import Controller
from vcl_provision.images.formats.vmx import read_vmx
from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.images.kvm_probe import BOOT_SECTOR
from vcl_provision.model.faults import Refused

MAC = "52:54:00:0a:0b:0c"
CHANNEL = LocalChannel()


@pytest.fixture
def machine(tmp_path: Path) -> BuiltMachine:
    """Two disks: one that turns the machine off, and one of anything."""
    need("qemu-img", "qemu-system-x86_64")
    folder = tmp_path / "machine"
    folder.mkdir()
    contents = (BOOT_SECTOR, os.urandom(300_000))
    disks = [folder / "disk.qcow2", folder / "disk2.qcow2"]
    for disk, content in zip(disks, contents, strict=True):
        raw = tmp_path / "raw"
        raw.write_bytes(content.ljust(2 << 20, b"\0"))
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk], check=True)
    return BuiltMachine(
        name="deployed",
        disks=disks,
        disk_format=DiskFormat.QCOW2,
        loader=Loader.BIOS,
        memory_mb=64,
        cpus=1,
        mac=MAC,
        os="Debian GNU/Linux 12 (bookworm)",
    )


def laid(target: Target, machine: BuiltMachine, *, overwrite: bool = False) -> str:
    folder = machine.disks[0].parent
    root = folder.with_name("root")
    patience = Patience(60)
    return lay(
        target,
        machine,
        folder,
        place=folder,
        root=root,
        moment=MOMENT,
        network="user",
        overwrite=overwrite,
        channel=CHANNEL,
        patience=patience,
    )


def same(disks: list[Path], disk_format: DiskFormat, machine: BuiltMachine) -> bool:
    patience = Patience(60)
    return all(
        same_content(made, disk_format, disk, machine.disk_format, channel=CHANNEL, patience=patience)
        for made, disk in zip(disks, machine.disks, strict=True)
    )


@pytest.mark.parametrize("target", [Target.VMWARE, Target.ESXI, Target.VIRTUALBOX, Target.OVA])
def test_the_same_machine_gives_the_same_bytes_where_that_is_wanted(target: Target, machine: BuiltMachine) -> None:
    """And is still read by who is to start it: the tests below say so of a machine with random numbers."""
    folder = machine.disks[0].parent
    sums: list[dict[str, bytes]] = []
    for identity in ("a build", "a build", "another"):
        laid(target, replace(machine, identity=identity), overwrite=True)
        made = sorted(path for path in folder.glob("deployed*") if path.is_file())
        sums.append({path.name: path.read_bytes() for path in made})
    assert sums[0] == sums[1]
    assert (sums[0] != sums[2]) is (target is not Target.ESXI), "an ESX pair has no numbers of its own"
    formats = {".vmdk": DiskFormat.VMDK, ".vdi": DiskFormat.VDI}
    for path in made:
        if path.suffix in formats and not path.name.endswith("-flat.vmdk"):
            standalone(path, formats[path.suffix], channel=CHANNEL, patience=Patience(60))


@pytest.mark.parametrize("target", [Target.VMWARE, Target.ESXI])
def test_vmware_s_files_hold_the_machine(target: Target, machine: BuiltMachine) -> None:
    folder = machine.disks[0].parent
    assert "deployed.vmx" in laid(target, machine)
    read, disks = read_vmx(folder / "deployed.vmx")
    assert disks == ["deployed.vmdk", "deployed-2.vmdk"]
    assert (read.name, read.memory_mb, read.controller) == ("deployed", 64, Controller.PVSCSI)
    assert read.os.word.startswith("debian")
    assert [nic.mac for nic in read.nics] == [MAC]
    assert same([folder / name for name in disks], DiskFormat.VMDK, machine)
    assert (folder / "deployed-flat.vmdk").exists() is (target is Target.ESXI)


def test_virtualbox_s_files_hold_the_machine(machine: BuiltMachine) -> None:
    folder = machine.disks[0].parent
    assert "registervm deployed.vbox" in laid(Target.VIRTUALBOX, machine)
    root = fromstring((folder / "deployed.vbox").read_bytes())
    space = {"v": "http://www.virtualbox.org/"}
    disks = [disk.get("location", "") for disk in root.iterfind(".//v:HardDisk", space)]
    assert disks == ["deployed.vdi", "deployed-2.vdi"]
    assert [card.get("MACAddress") for card in root.iterfind(".//v:Adapter", space)] == ["5254000A0B0C"]
    assert same([folder / name for name in disks], DiskFormat.VDI, machine)


def test_an_ova_imports_as_the_machine_that_it_was_made_of(machine: BuiltMachine, tmp_path: Path) -> None:
    laid(Target.OVA, machine)
    archive = machine.disks[0].parent / "deployed.ova"
    imported = import_package(archive, tmp_path / "imported", DiskFormat.RAW, channel=CHANNEL, patience=Patience(60))
    assert imported.verified
    assert (imported.machine.name, imported.machine.memory_mb, imported.machine.cpus) == ("deployed", 64, 1)
    assert same(list(imported.disks), DiskFormat.RAW, machine)


def test_a_tarball_gives_the_tree_again_and_the_same_bytes(machine: BuiltMachine, tmp_path: Path) -> None:
    need_root()
    tree = fill_tree(tmp_path / "root")
    age(tree, MOMENT)
    archive, unpacked = machine.disks[0].parent / "deployed.tar.gz", tmp_path / "unpacked"
    used = laid(Target.TARBALL, machine)
    first = archive.read_bytes()
    unpacked.mkdir()
    command = used.partition(": ")[2].partition(";")[0].replace("FOLDER", str(unpacked))
    subprocess.run(["sh", "-c", command], check=True, cwd=archive.parent)
    assert facts(unpacked) == facts(tree)
    assert (unpacked / "var/sparse").stat().st_blocks * 512 < 1 << 20
    tree.rename(tmp_path / "old")
    fill_tree(tree)  # not aged: what is newer is set back in the archive
    laid(Target.TARBALL, machine, overwrite=True)
    assert archive.read_bytes() == first


def test_what_is_there_is_replaced_only_when_that_is_said(machine: BuiltMachine) -> None:
    folder = machine.disks[0].parent
    for target in (Target.SCRIPT, Target.VMWARE, Target.VIRTUALBOX, Target.OVA):
        laid(target, machine)
        before = sorted(folder.iterdir())
        with pytest.raises(Refused, match="is there already"):
            laid(target, machine)
        assert sorted(folder.iterdir()) == before
        laid(target, machine, overwrite=True)


def test_the_start_script_is_sound_shell_whatever_the_machine_is(machine: BuiltMachine) -> None:
    need("shellcheck", "dash")
    for each in (machine, replace(machine, loader=Loader.UEFI)):
        text = start_script(each)
        subprocess.run(["dash", "-n"], input=text, text=True, check=True)
        checked = subprocess.run(["shellcheck", "-"], input=text, text=True, capture_output=True, check=False)
        assert checked.stdout == ""


def test_the_start_script_runs_the_machine_with_what_works_and_hands_arguments_on(machine: BuiltMachine) -> None:
    """The machine turns itself off, which a KVM that hangs never would."""
    laid(Target.SCRIPT, machine)
    folder = machine.disks[0].parent
    argv = ["setpriv", "--pdeathsig", "KILL", folder / "run", "-pidfile", folder / "pid", "-monitor", "none"]
    environment = {**os.environ, "SSH_PORT": "0", "DISPLAY": ""}
    subprocess.run(
        argv, env=environment, check=True, timeout=60, stdin=subprocess.DEVNULL, cwd="/", capture_output=True
    )
    refused = subprocess.run(
        [folder / "run", "-nonsense"], env={**environment, "ACCEL": "tcg"}, capture_output=True, check=False
    )
    assert b"-nonsense" in refused.stderr


@pytest.fixture
def defined(libvirt_lab: LocalLab) -> Iterator[str]:
    """libvirt's address; the domain is gone afterwards."""
    need("virsh")
    yield libvirt_lab.host_address
    libvirt = libvirt_binding()
    connection = libvirt.open(libvirt_lab.host_address)
    try:
        for domain in connection.listAllDomains():
            if domain.name() == "deployed":
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
    finally:
        connection.close()


def test_a_domain_for_uefi_finds_its_firmware(machine: BuiltMachine, defined: str) -> None:
    need_root()
    machine = replace(machine, loader=Loader.UEFI)
    description, patience = machine.disks[0].with_name("deployed.xml"), Patience(60)
    description.write_text(domain_xml(machine, place=description.parent, kind="qemu", network="user"))
    define_domain(machine, description, uri=defined, channel=CHANNEL, patience=patience)
    connection = libvirt_binding().open(defined)
    try:
        domain = connection.lookupByName("deployed")
        domain.create()
        assert domain.isActive()
    finally:
        connection.close()


def test_a_domain_is_defined_by_the_host_s_name_and_starts(machine: BuiltMachine, defined: str) -> None:
    laid(Target.LIBVIRT, machine)
    description, patience = machine.disks[0].parent / "deployed.xml", Patience(60)
    used = define_domain(machine, description, uri=defined, channel=CHANNEL, patience=patience)
    with pytest.raises(Refused, match="has a domain deployed already"):
        define_domain(machine, description, uri=defined, channel=CHANNEL, patience=patience)
    connection = libvirt_binding().open(defined)
    try:
        domain = connection.lookupByName("deployed")
        uuid = domain.UUIDString()
        assert MAC in domain.XMLDesc()
        description.write_text(description.read_text().replace(">64<", ">80<"))
        define_domain(machine, description, uri=defined, overwrite=True, channel=CHANNEL, patience=patience)
        domain = connection.lookupByName("deployed")
        assert (domain.UUIDString(), domain.maxMemory()) == (uuid, 80 * 1024)
        subprocess.run(used.split(), check=True, capture_output=True)
        patience.until(lambda: not domain.isActive(), "the machine to turn itself off", every=0.05)
        assert domain.state()[1] == libvirt_binding().VIR_DOMAIN_SHUTOFF_SHUTDOWN
    finally:
        connection.close()
