"""The settings files that VMware and VirtualBox register as they are."""

from __future__ import annotations

import struct
from itertools import product
from pathlib import Path
from uuid import UUID
from xml.etree.ElementTree import Element, fromstring

import pytest

from vcl_provision.images.formats.guest_os import guest_os
from vcl_provision.images.formats.machine import Controller, Firmware, Machine, Nic, NicModel
from vcl_provision.images.formats.vbox import write_vbox
from vcl_provision.images.formats.vmx import parse_vmx, read_vmx, write_vmx
from vcl_provision.model.faults import Refused

GIB = 1 << 30
VBOX = "{http://www.virtualbox.org/}"
UUIDS = [UUID(int=0x1234567890ABCDEF1234567890ABCDEF), UUID(int=2)]


def machine(**changes: object) -> Machine:
    told: dict[str, object] = {
        "name": "lab",
        "cpus": 2,
        "memory_mb": 1024,
        "disks": [0, 0],
        "os": guest_os("debian12"),
        "nics": [Nic(network="nat", mac="00:50:56:3f:02:03"), Nic(network="Lab LAN", model=NicModel.VMXNET3)],
    }
    return Machine(**{**told, **changes})  # pyright: ignore[reportArgumentType]


def settings(path: Path) -> dict[str, str]:
    return parse_vmx(path.read_bytes(), str(path))


@pytest.mark.parametrize(("controller", "firmware"), [*product(Controller, Firmware)])
def test_a_vmx_is_read_as_it_was_written(tmp_path: Path, controller: Controller, firmware: Firmware) -> None:
    written = machine(
        controller=controller,
        firmware=firmware,
        note='two\nlines, "quotes" | a bar',
        properties={"userdata": 'a="b"\n', "metadata": "ü"},
    )
    write_vmx(written, ["a.vmdk", "/vmfs/volumes/x/b.vmdk"], tmp_path / "lab.vmx", hardware=20)
    read, disks = read_vmx(tmp_path / "lab.vmx")
    assert disks == ["a.vmdk", "/vmfs/volumes/x/b.vmdk"]
    assert (read.nics[0].mac, read.nics[1].mac) == ("00:50:56:3f:02:03", "")
    assert read == written


def test_a_vmx_has_what_a_host_asks_for(tmp_path: Path) -> None:
    write_vmx(machine(firmware=Firmware.EFI), ["a.vmdk", "b.vmdk"], tmp_path / "lab.vmx")
    told = settings(tmp_path / "lab.vmx")
    assert (told["virtualhw.version"], told["config.version"], told["firmware"]) == ("13", "8", "efi")
    assert told["guestos"] == "debian10-64"  # what a host of that version knows
    assert (told["scsi0.present"], told["scsi0.virtualdev"], told["scsi0:1.filename"]) == ("TRUE", "lsilogic", "b.vmdk")
    assert (told["ethernet0.addresstype"], told["ethernet0.address"]) == ("static", "00:50:56:3f:02:03")
    assert (told["ethernet0.connectiontype"], told["ethernet1.networkname"]) == ("nat", "Lab LAN")
    assert told["ethernet1.addresstype"] == "generated"
    assert told["pcibridge7.virtualdev"] == "pcieRootPort"
    assert "ethernet0.checkmacaddress" not in told


def test_a_mac_outside_of_vmwares_range_is_kept_all_the_same(tmp_path: Path) -> None:
    for mac, checked in (("52:54:00:01:02:03", "FALSE"), ("00:50:56:40:00:00", "FALSE"), ("00:50:56:3F:FF:FF", None)):
        write_vmx(machine(disks=[], nics=[Nic(mac=mac)]), [], tmp_path / "lab.vmx", overwrite=True)
        assert settings(tmp_path / "lab.vmx").get("ethernet0.checkmacaddress") == checked


def test_an_old_hardware_version_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="older than 13"):
        write_vmx(machine(), ["a", "b"], tmp_path / "lab.vmx", hardware=10)
    assert list(tmp_path.iterdir()) == []


def test_a_property_from_outside_cannot_smuggle_a_setting_in(tmp_path: Path) -> None:
    for name in ('x = "1"\nscsi0:2.fileName', 'x"', "", "a b"):
        with pytest.raises(Refused, match="cannot be named"):
            write_vmx(machine(properties={name: "/etc/shadow"}), ["a", "b"], tmp_path / "lab.vmx")
    write_vmx(machine(note='"\nscsi0:2.fileName = "/etc/shadow'), ["a", "b"], tmp_path / "lab.vmx")
    assert "scsi0:2.filename" not in settings(tmp_path / "lab.vmx")


@pytest.mark.parametrize("changes", [{"note": "\x01"}, {"properties": {"a": "\x1b"}}, {"nics": [Nic(network="\0")]}])
def test_what_xml_cannot_hold_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(Refused, match="control characters"):
        machine(**changes)


def test_a_vmx_that_is_there_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "lab.vmx"
    path.write_text("old")
    with pytest.raises(Refused, match="is there already"):
        write_vmx(machine(), ["a", "b"], path)
    assert path.read_text() == "old"
    write_vmx(machine(), ["a", "b"], path, overwrite=True)
    assert settings(path)["displayname"] == "lab"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"memsize = 12", "no setting"),
        (b'memsize = "1"\nMemSize = "2"', "sets MemSize twice"),
        (b"x" * ((1 << 20) + 1), "at most"),
        (b"\x00\x01", "no setting"),
    ],
)
def test_a_vmx_that_cannot_be_read_is_named(text: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said) as refusal:
        parse_vmx(text, "lab.vmx")
    assert refusal.value.hint


def test_a_number_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "lab.vmx").write_text('memsize = "much"\n')
    with pytest.raises(Refused, match="'much' as memsize"):
        read_vmx(tmp_path / "lab.vmx")


def test_comments_blanks_and_optical_drives_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "old.vmx").write_text(
        '#!/usr/bin/vmware\n\n.encoding = "windows-1252"\nsata0:1.present = "TRUE"\nsata0:1.fileName = "x.iso"\n'
        'sata0:1.deviceType = "cdrom-image"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "a.vmdk"\n'
        'scsi0:1.present = "FALSE"\nscsi0:1.fileName = "b.vmdk"\nguestOS = "ubuntu-64"\n'
    )
    read, disks = read_vmx(tmp_path / "old.vmx")
    assert (read.name, read.cpus, read.os.word, disks) == ("old", 1, "ubuntu", ["a.vmdk"])


def vdi_at(path: Path, identity: UUID) -> Path:
    fields = (0xBEDA107F, 0x10001, 0x190, 1, 0, 512, 1024, 512, GIB, 1 << 20, 0, 1024, 0)
    uuids = identity.bytes_le + bytes(48)
    path.write_bytes(struct.pack("<64xIIIII256xII12xI4xQIIII64s", *fields, uuids).ljust(1024, b"\0"))
    return path


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    return [vdi_at(tmp_path / f"disk{n}.vdi", identity) for n, identity in enumerate(UUIDS)]


def vbox(machine: Machine, disks: list[Path], target: Path) -> Element:
    write_vbox(machine, disks, target)
    return fromstring(target.read_bytes())


def found(root: Element, path: str) -> list[dict[str, str]]:
    return [element.attrib for element in root.iterfind(path.replace("/", f"/{VBOX}"))]


def test_a_vbox_names_each_disk_by_its_own_uuid(tmp_path: Path, disks: list[Path]) -> None:
    root = vbox(machine(), disks, tmp_path / "lab.vbox")
    registered = found(root, "./Machine/MediaRegistry/HardDisks/HardDisk")
    assert [(disk["uuid"], disk["location"]) for disk in registered] == [
        (f"{{{identity}}}", f"disk{n}.vdi") for n, identity in enumerate(UUIDS)
    ]
    attached = found(root, "./Machine/Hardware/StorageControllers/StorageController/AttachedDevice/Image")
    assert [image["uuid"] for image in attached] == [disk["uuid"] for disk in registered]


@pytest.mark.parametrize(
    ("controller", "kind", "ports"),
    [
        (Controller.SATA, "AHCI", [("0", "0"), ("1", "0")]),
        (Controller.SCSI, "LsiLogic", [("0", "0"), ("1", "0")]),
        (Controller.PVSCSI, "LsiLogic", [("0", "0"), ("1", "0")]),
        (Controller.IDE, "PIIX4", [("0", "0"), ("0", "1")]),
    ],
)
def test_a_vbox_hangs_its_disks_where_virtualbox_has_places(
    tmp_path: Path, disks: list[Path], controller: Controller, kind: str, ports: list[tuple[str, str]]
) -> None:
    root = vbox(machine(controller=controller), disks, tmp_path / "lab.vbox")
    controllers = found(root, "./Machine/Hardware/StorageControllers/StorageController")
    assert [told["type"] for told in controllers] == [kind]
    devices = found(root, "./Machine/Hardware/StorageControllers/StorageController/AttachedDevice")
    assert [(device["port"], device["device"]) for device in devices] == ports


def test_a_vbox_has_the_hardware(tmp_path: Path, disks: list[Path]) -> None:
    nics = [
        Nic(network="bridged:eth0", mac="08:00:27:aa:bb:01", model=NicModel.VIRTIO),
        Nic(network="hostonly:vboxnet0"),
        Nic(network="VM Network"),
    ]
    root = vbox(machine(firmware=Firmware.EFI, nics=nics, note="a <note>"), disks, tmp_path / "lab.vbox")
    assert root.attrib["version"] == "1.19-linux"
    assert found(root, "./Machine")[0]["OSType"] == "Debian12_64"
    assert root.findtext(f"{VBOX}Machine/{VBOX}Description") == "a <note>"
    assert found(root, "./Machine/Hardware/Firmware") == [{"type": "EFI"}]
    assert found(root, "./Machine/Hardware/Memory") == [{"RAMSize": "1024"}]
    adapters = found(root, "./Machine/Hardware/Network/Adapter")
    assert [adapter["type"] for adapter in adapters] == ["virtio", "82540EM", "82540EM"]
    assert adapters[0]["MACAddress"] == "080027AABB01"
    assert len({adapter["MACAddress"] for adapter in adapters}) == 3  # without one it would register and not start
    kinds = [[child.tag.removeprefix(VBOX) for child in adapter] for adapter in root.iter(f"{VBOX}Adapter")]
    assert kinds == [["BridgedInterface"], ["HostOnlyInterface"], ["NAT"]]


def test_a_vbox_hands_properties_to_the_guest(tmp_path: Path, disks: list[Path]) -> None:
    root = vbox(machine(properties={"token": 'x<"&'}), disks, tmp_path / "lab.vbox")
    (told,) = found(root, "./Machine/Hardware/GuestProperties/GuestProperty")
    assert (told["name"], told["value"]) == ("/vcl/token", 'x<"&')


def test_two_machines_of_one_name_differ(tmp_path: Path, disks: list[Path]) -> None:
    one = vbox(machine(), disks, tmp_path / "a.vbox")
    same = vbox(machine(), disks, tmp_path / "b.vbox")
    disks.reverse()
    other = vbox(machine(), disks, tmp_path / "c.vbox")
    uuids = [found(root, "./Machine")[0]["uuid"] for root in (one, same, other)]
    assert uuids[0] == uuids[1] != uuids[2]


def test_what_is_no_vdi_and_more_disks_than_places_are_refused(tmp_path: Path, disks: list[Path]) -> None:
    disks[1].write_bytes(b"QFI\xfb" * 300)
    with pytest.raises(Refused, match="no vdi image"):
        write_vbox(machine(), disks, tmp_path / "lab.vbox")
    with pytest.raises(Refused, match="has 16 disks; scsi takes 15"):
        write_vbox(machine(disks=[0] * 16, controller=Controller.PVSCSI), disks[:1] * 16, tmp_path / "lab.vbox")
    assert not (tmp_path / "lab.vbox").exists()
