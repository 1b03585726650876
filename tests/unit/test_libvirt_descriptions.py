"""What the libvirt module writes and reads without a libvirt: descriptions, marks, file names, addresses of hosts."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from a_cpu import CPU, EMULATED
from fix_libvirt import libvirt_module

from vcl_provision.model.faults import Refused
from vcl_provision.model.lab import VmHost, VmProfile

machine, hardware, volumes = (libvirt_module(part) for part in ("machine", "hardware", "volumes"))
connections = libvirt_module("connections")

NASTY = "</name><!-- \"'&amp; ]]>"


def mark(**changes: Any) -> Any:
    usual = {"owner": "vcl:lab:vm1", "revision": "debian12-v3", "generation": "g1", "host_key": "ssh-ed25519 AAAA"}
    return machine.Mark(**{"revision_id": 7, **usual, **changes})


def described(**changes: Any) -> ET.Element:
    whole = machine.Machine(
        name="vm1",
        mark=mark(),
        accelerator="tcg",
        memory_mb=512,
        cpus=2,
        disks=[machine.Attached(path="/vm/disk.qcow2")],
        carried=machine.Carried(seed="/vm/seed.iso", optical=True),
        network="default",
        mac="52:54:00:00:00:01",
        console="/vm/console.log",
        hardware=hardware.Hardware(),
    )
    return ET.fromstring(machine.describe(replace(whole, **changes)))


def attributes(root: ET.Element, path: str) -> dict[str, str]:
    found = root.find(path)
    assert found is not None, path
    return dict(found.attrib)


def test_nothing_that_is_written_into_a_description_can_break_out_of_its_place() -> None:
    boot = machine.Kernel(kernel=NASTY, initrd=NASTY, command_line=NASTY)
    root = described(name=NASTY, disks=[machine.Attached(path=NASTY)], network=NASTY, mark=mark(owner=NASTY), boot=boot)
    assert root.findtext("name") == NASTY
    assert [root.findtext(f"os/{part}") for part in ("kernel", "initrd", "cmdline")] == [NASTY] * 3
    assert attributes(root, "devices/disk/source") == {"file": NASTY}
    assert attributes(root, "devices/interface/source") == {"network": NASTY}
    assert attributes(root, "metadata/")["owner"] == NASTY


def test_a_mark_is_read_as_it_was_written() -> None:
    root = described(mark=mark(owner=NASTY))
    element = root.find("metadata/")
    assert element is not None
    assert machine.read_mark(ET.tostring(element, encoding="unicode")) == mark(owner=NASTY)


@pytest.mark.parametrize("changes", [{"revision_id": "seven"}, {"more": "than there was"}])
def test_a_mark_that_was_not_written_by_us_is_none(changes: dict[str, str]) -> None:
    said = {**{key: str(value) for key, value in asdict(mark()).items()}, **changes}
    text = ET.tostring(ET.Element("machine", said), encoding="unicode")
    assert machine.read_mark(text) is None


def test_a_machine_without_a_kernel_of_its_own_boots_from_its_disk() -> None:
    assert attributes(described(), "os/boot") == {"dev": "hd"}
    assert described().find("os/kernel") is None


@pytest.mark.parametrize(("accelerator", "kind", "cpu"), [("kvm", "kvm", "host-model"), ("tcg", "qemu", "maximum")])
def test_the_accelerator_decides_domain_type_and_cpu(accelerator: str, kind: str, cpu: str) -> None:
    root = described(accelerator=accelerator)
    assert root.get("type") == kind
    assert attributes(root, "cpu") == {"mode": cpu}


def test_an_emulated_cpu_is_qemus_maximum_as_in_bare_boots() -> None:
    assert (attributes(described(), "cpu"), CPU) == ({"mode": "maximum"}, "max")
    assert attributes(described(accelerator="kvm"), "cpu") == {"mode": "host-model"}


def test_an_emulated_machine_keeps_little_translated_code_for_a_restart_looks_through_it() -> None:
    assert described().findtext("features/tcg/tb-cache") == EMULATED.rpartition("=")[2] == "64"
    assert attributes(described(), "features/tcg/tb-cache") == {"unit": "MiB"}
    assert described(accelerator="kvm").find("features/tcg") is None


def test_a_bridge_is_named_as_one() -> None:
    root = described(network="bridge:br0")
    assert attributes(root, "devices/interface") == {"type": "bridge"}
    assert attributes(root, "devices/interface/source") == {"bridge": "br0"}


def test_overrides_reach_the_description() -> None:
    words: dict[str, object] = {
        "machine": "q35",
        "cpu_mode": "host-passthrough",
        "bus": "sata",
        "nic_model": "e1000e",
        "cache": "none",
        "extra_memory_mb": 64,
        "console": "pty",
        "video": "vga",
    }
    root = described(hardware=hardware.hardware_of(profile(overrides=words)))
    assert attributes(root, "os/type")["machine"] == "q35"
    assert attributes(root, "cpu") == {"mode": "host-passthrough"}
    assert root.findtext("memory") == "576"
    system, seed = root.findall("devices/disk")
    assert attributes(system, "driver")["cache"] == "none"
    assert [attributes(disk, "target") for disk in (system, seed)] == [
        {"dev": "sda", "bus": "sata"},
        {"dev": "sdb", "bus": "sata"},
    ]
    assert seed.get("device") == "cdrom"
    assert attributes(root, "devices/interface/model") == {"type": "e1000e"}
    assert root.find("devices/serial/log") is None
    assert attributes(root, "devices/graphics")["listen"] == "127.0.0.1"


def profile(**changes: Any) -> VmProfile:
    return replace(VmProfile(name="p", repository_path="/r", datastore_path="/d", vm_path="/v"), **changes)


@pytest.mark.parametrize(
    ("override", "said", "hint"),
    [
        ({"buss": "ide"}, "unknown override 'buss'", "did you mean 'bus'?"),
        ({"zzz": 1}, "unknown override 'zzz'", "there are accelerator, bus, "),
        ({"bus": "floppy"}, "'floppy' as override 'bus'", "it may be ide, sata, "),
        ({"bus": ["ide"]}, "['ide'] as override 'bus'", "it may be ide, sata, "),
        ({"extra_memory_mb": "64"}, "'64' as override 'extra_memory_mb'", "a whole number of MiB"),
        ({"extra_memory_mb": True}, "True as override", "a whole number of MiB"),
        ({"machine": "pc' or '1"}, "as override 'machine'", "a machine type"),
    ],
)
def test_an_override_that_cannot_be_is_refused_with_what_could(
    override: dict[str, object], said: str, hint: str
) -> None:
    with pytest.raises(Refused) as refused:
        hardware.hardware_of(profile(overrides=override))
    assert said in refused.value.said
    assert hint in refused.value.hint


def test_a_machine_is_handed_a_file_and_strings_without_a_disk_for_them() -> None:
    carried = machine.Carried(fw_cfg="/vm/firstboot.conf", oem_strings=["vcl:a='1,2'", NASTY], serial="ds=x")
    root = described(carried=carried)
    assert [disk.get("device") for disk in root.findall("devices/disk")] == ["disk"]
    assert attributes(root, "os/smbios") == {"mode": "sysinfo"}
    assert attributes(root, "sysinfo[@type='fwcfg']/entry")["file"] == "/vm/firstboot.conf"
    assert [entry.text for entry in root.findall("sysinfo/oemStrings/entry")] == ["vcl:a='1,2'", NASTY]
    assert root.findtext("sysinfo/system/entry[@name='serial']") == "ds=x"


def test_a_machine_that_is_told_by_a_disk_has_nothing_else() -> None:
    assert described().find("sysinfo") is None
    assert described().find("os/smbios") is None


@pytest.mark.parametrize("first_boot", ["vfat", "bootparams"])
@pytest.mark.parametrize("bus", ["ide", "sata"])
def test_a_disk_that_would_be_no_cd_is_refused_where_it_had_to_be_one(first_boot: str, bus: str) -> None:
    with pytest.raises(Refused, match=f"{first_boot}.*{bus}") as refused:
        hardware.hardware_of(profile(overrides={"first_boot": first_boot, "bus": bus}))
    assert "nocloud" in refused.value.hint


def test_a_small_disk_is_a_disk_on_a_bus_that_has_cds() -> None:
    words = hardware.hardware_of(profile(overrides={"first_boot": "bootparams", "bus": "scsi"}))
    seed = described(hardware=words, carried=machine.Carried(seed="/vm/seed.img")).findall("devices/disk")[1]
    assert seed.get("device") == "disk"


@pytest.mark.parametrize(
    "kind", ["disk.qcow2", "seed.iso", "seed.img", "firstboot.conf", "console.log", "console.log.1"]
)
@pytest.mark.parametrize("computer", ["vm1", "vm_1", "vm-1.example.org"])
def test_a_file_name_carries_its_owner(computer: str, kind: str) -> None:
    owner = f"vcl:0b6e9b52-6f0a-4c3e-9d5f-4f2f6c1d2e3a:{computer}"
    name = volumes.file_name(owner, kind)
    assert "/" not in name
    assert volumes.owner_of(name) == owner


@pytest.mark.parametrize("name", ["disk.qcow2", "vcl_vm1.disk.qcow2", "vcl_lab_vm1.vmdk", "xvcl_lab_vm1.disk.qcow2"])
def test_a_file_of_nobody_has_no_owner(name: str) -> None:
    assert volumes.owner_of(name) == ""


@pytest.mark.parametrize(
    ("address", "credentials", "uri"),
    [
        ("qemu:///system", "", "qemu:///system"),
        ("host1", "", "qemu+ssh://root@host1/system?no_tty=1"),
        ("host1", "file:/k", "qemu+ssh://root@host1/system?no_tty=1&keyfile=%2Fk"),
        ("qemu+ssh://u@h:22/system?socket=/s", "", "qemu+ssh://u@h:22/system?no_tty=1&socket=%2Fs"),
    ],
)
def test_a_host_is_reached_by_its_uri_or_over_ssh(address: str, credentials: str, uri: str) -> None:
    host = VmHost(
        id=1, name="h", address=address, profile=profile(credentials=credentials), provisioning_module="libvirt"
    )
    assert connections.uri_of(host) == uri


def test_credentials_that_ssh_could_not_use_are_refused() -> None:
    with pytest.raises(Refused, match="'env:KEY' cannot be used"):
        connections.uri_of_address("qemu+ssh://h/system", "env:KEY")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("qemu:///system", True),
        ("qemu:///session", True),
        ("qemu+unix:///system?socket=/s", True),
        ("qemu+ssh://root@h/system", False),
        ("qemu+tls://h/system", False),
        ("localhost", False),
    ],
)
def test_only_a_daemon_of_this_machine_shares_its_files(address: str, *, local: bool) -> None:
    assert connections.is_local(address) is local
