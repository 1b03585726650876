"""What a machine is started with, as text: names and addresses checked, hardware that its kernel has drivers for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from vcl_provision.images.builder.deploy.built_machine import BuiltMachine, DirectBoot, kernel_drivers
from vcl_provision.images.builder.deploy.hardware import BOTH, VIRTUALBOX, VMWARE, described
from vcl_provision.images.builder.deploy.libvirt_domain import domain_xml
from vcl_provision.images.builder.deploy.start_script import start_script
from vcl_provision.images.builder.deploy.targets import Target, check_targets, tools
from vcl_provision.images.builder.disks.filesystems import last_inode
from vcl_provision.images.builder.disks.grub import BootFolder, Kernel, find_kernels, grub_config, located
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.formats.machine import Controller, Firmware, NicModel
from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.model.faults import Refused

MACHINE = BuiltMachine(
    name="web.lab",
    disks=[Path("/build/disk.qcow2"), Path("/build/disk2.qcow2")],
    disk_format=DiskFormat.QCOW2,
    loader=Loader.BIOS,
    memory_mb=768,
    cpus=2,
    os="Debian GNU/Linux 12 (bookworm)",
)
DIRECT = replace(
    MACHINE,
    loader=Loader.DIRECT,
    boot=DirectBoot(
        kernel=Path("/build/vmlinuz"), initrd=Path("/build/initrd.img"), command_line="root=UUID=1 a='b c'"
    ),
)


@pytest.mark.parametrize("name", ["", "-web", "web;reboot", "a b", "x" * 64, "../web"])
def test_a_name_that_is_no_host_s_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="cannot name a machine"):
        replace(MACHINE, name=name)


@pytest.mark.parametrize("mac", ["52:54:00:12:34", "01:00:5e:00:00:01", "52-54-00-12-34-56", "52:54:00:12:34:5g"])
def test_an_address_that_no_card_can_have_is_refused(mac: str) -> None:
    with pytest.raises(Refused, match="cannot be a network card's address"):
        replace(MACHINE, mac=mac)


def test_a_machine_without_an_address_gets_one_of_its_own_and_always_the_same() -> None:
    assert MACHINE.address == replace(MACHINE).address
    assert MACHINE.address != replace(MACHINE, name="db.lab").address
    assert MACHINE.address.startswith("52:54:00:")
    assert replace(MACHINE, mac="02:AB:00:00:00:01").address == "02:ab:00:00:00:01"


def test_a_kernel_is_handed_over_by_qemu_only() -> None:
    assert check_targets(["script", "libvirt", "tarball"], Loader.DIRECT) == [
        Target.SCRIPT,
        Target.LIBVIRT,
        Target.TARBALL,
    ]
    for target in ("vmware", "esxi", "virtualbox", "ova"):
        with pytest.raises(Refused, match="cannot start a kernel that is handed over"):
            check_targets([target], Loader.DIRECT)
        assert check_targets([target, target], Loader.BIOS) == [Target(target)]
    with pytest.raises(Refused, match="handed over with direct, and only then"):
        replace(MACHINE, boot=DIRECT.boot)


def test_a_target_that_is_none_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Refused, match="no target 'vmwear'") as no:
        check_targets(["vmwear"], Loader.BIOS)
    assert "virtualbox" in no.value.hint
    with pytest.raises(Refused, match="same name"):
        check_targets(["vmware", "esxi"], Loader.BIOS)
    assert tools([Target.OVA, Target.TARBALL]) == {"qemu-img": "qemu-utils", "tar": "tar", "gzip": "gzip"}


def test_hardware_is_what_the_kernel_has_drivers_for() -> None:
    anything = described(MACHINE, VMWARE, network="nat")
    assert (anything.controller, anything.nics[0].model) == (Controller.PVSCSI, NicModel.VMXNET3)
    cloud = replace(
        MACHINE, drivers=frozenset({"ata_piix", "virtio_net", "vmw_pvscsi", "vmxnet3"}), mac="52:54:00:00:00:01"
    )
    for offer, controller, nic in (
        (VMWARE, Controller.PVSCSI, NicModel.VMXNET3),
        (VIRTUALBOX, Controller.IDE, NicModel.VIRTIO),
        (BOTH, Controller.IDE, NicModel.VMXNET3),
    ):
        machine = described(cloud, offer, network="nat")
        assert (machine.controller, machine.nics[0].model) == (controller, nic)
        assert machine.nics[0].mac == "52:54:00:00:00:01"
    with pytest.raises(Refused, match="no driver for a disk controller of VirtualBox: ahci, mptspi, ata_piix"):
        described(replace(cloud, drivers=frozenset({"virtio_blk"})), VIRTUALBOX, network="nat")
    assert described(replace(MACHINE, loader=Loader.UEFI), VMWARE, network="nat").firmware is Firmware.EFI


def test_the_drivers_of_a_kernel_are_read_from_its_module_lists(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/modules/6.1.0-9"
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text("kernel/drivers/net/virtio-net.ko.xz: kernel/net/failover.ko\n")
    (folder / "modules.builtin").write_text("kernel/drivers/ata/ahci.ko\n")
    assert kernel_drivers(tmp_path) == {"virtio_net", "ahci"}


def test_a_domain_has_the_host_s_name_its_address_and_all_its_disks() -> None:
    root = fromstring(domain_xml(replace(MACHINE, mac="52:54:00:00:00:07"), place=Path("/var/lib/x"), kind="qemu"))
    assert root.get("type") == "qemu"
    assert root.findtext("name") == "web.lab"
    assert [source.get("file") for source in root.iterfind("./devices/disk/source")] == [
        "/var/lib/x/disk.qcow2",
        "/var/lib/x/disk2.qcow2",
    ]
    address = root.find("./devices/interface/mac")
    assert address is not None
    assert address.get("address") == "52:54:00:00:00:07"


def test_a_domain_is_handed_its_kernel_or_its_firmware() -> None:
    direct = fromstring(domain_xml(DIRECT, place=Path("/var/lib/x"), kind="kvm"))
    assert direct.findtext("./os/kernel") == "/var/lib/x/vmlinuz"
    assert direct.findtext("./os/cmdline") == "root=UUID=1 a='b c'"
    uefi = fromstring(
        domain_xml(replace(MACHINE, loader=Loader.UEFI), place=Path("/x"), kind="kvm", network="bridge:br0")
    )
    assert [os.get("firmware") for os in uefi.iterfind("os")] == ["efi"]
    assert uefi.find("./devices/interface/source[@bridge='br0']") is not None


def test_the_start_script_takes_the_disks_beside_it_and_quotes_what_is_in_them() -> None:
    script = start_script(replace(DIRECT, disks=[Path("/build/a disk, or two.qcow2")]))
    assert "-drive 'file=a disk,, or two.qcow2,format=qcow2,if=virtio'" in script
    assert """-append 'root=UUID=1 a='"'"'b c'"'"''""" in script
    assert f"mac={DIRECT.address}" in script
    assert "/build" not in script
    assert "@" not in script.replace('"$@"', "").replace("root@", "")


def test_boot_sectors_are_told_where_the_rest_lies() -> None:
    first, rest = located(bytes(range(256)) * 2, b"\1" * 1500, sector=2048)
    assert len(first) == 440
    assert first[0x5C:0x64] == (2048).to_bytes(8, "little")
    assert first[0x64] == 0xFF
    assert len(rest) == 1536
    assert rest[0x1F4:0x1FC] == (2049).to_bytes(8, "little")
    assert rest[0x1FC:0x1FE] == (2).to_bytes(2, "little")


def test_the_newest_kernel_is_booted(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    for version in ("6.1.0-9", "6.1.0-50", "5.10.0-99", "6.1.0-51"):
        (tmp_path / f"boot/vmlinuz-{version}").touch()
        if version != "6.1.0-51":  # one whose first ram disk has not been made
            (tmp_path / f"boot/initrd.img-{version}").touch()
    kernels = find_kernels(tmp_path)
    assert [kernel.version for kernel in kernels] == ["6.1.0-50", "6.1.0-9", "5.10.0-99"]
    config = grub_config(kernels, BootFolder(uuid="abc", path="/boot"), "root=UUID=abc quiet")
    assert "linux /boot/vmlinuz-6.1.0-50 root=UUID=abc quiet\n" in config
    assert config.index("6.1.0-50") < config.index("6.1.0-9")


@pytest.mark.parametrize("line", ["quiet $(reboot)", "a\nboot", "a 'b'", "a }"])
def test_a_command_line_that_grub_would_take_for_its_own_is_refused(line: str) -> None:
    with pytest.raises(Refused, match="GRUB would take for its own"):
        grub_config([Kernel(version="1", image="a", initrd="b")], BootFolder(uuid="abc", path=""), line)


def test_the_last_inode_in_use_is_read_from_the_head_of_a_dump() -> None:
    assert last_inode("Inode count:              1024\nFree inodes:              1000\nFirst inode:  11\n") == 24
    with pytest.raises(Refused, match="how many inodes"):
        last_inode("another version")
