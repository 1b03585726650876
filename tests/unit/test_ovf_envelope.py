"""Descriptors of OVF: as vSphere and VirtualBox write them, as we write them, and as somebody would who means harm."""

from __future__ import annotations

import re
from itertools import product

import pytest
from a_package import DEFAULT_HARDWARE, MIB, STREAM, descriptor, drive

from vcl_provision.images.formats.describing import DiskFile, Family, describe
from vcl_provision.images.formats.envelope import Envelope, read_envelope
from vcl_provision.images.formats.guest_os import SYSTEMS, by_cim, guest_os
from vcl_provision.images.formats.hardware import unit_bytes
from vcl_provision.images.formats.machine import Controller, Firmware, Machine, Nic, NicModel, places, slots
from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.images.formats.xml import DEEPEST, MOST_BYTES, parse_xml
from vcl_provision.model.faults import Refused

FILES = '<File ovf:href="a.vmdk" ovf:id="f1"/><File ovf:href="b.vmdk" ovf:id="f2" ovf:size="9"/>'
DISKS = (
    f'<Disk ovf:capacity="1" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="d1" ovf:fileRef="f1" '
    f'ovf:format="{STREAM}"/>'
    f'<Disk ovf:capacity="1048576" ovf:diskId="d2" ovf:fileRef="f2" ovf:format="{STREAM}"/>'
)


def read(text: bytes) -> Envelope:
    return read_envelope(text, "lab.ovf")


def refusal_of(text: bytes) -> str:
    with pytest.raises(Refused) as refusal:
        read(text)
    assert refusal.value.hint
    assert "lab.ovf" in refusal.value.said
    return refusal.value.said


def test_a_descriptor_of_vsphere_is_read() -> None:
    nic = """<Item><rasd:Connection>Lab</rasd:Connection><rasd:InstanceID>20</rasd:InstanceID>
      <rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>"""
    found = read(descriptor(hardware=DEFAULT_HARDWARE + drive("ovf:/disk/vmdisk1") + nic))
    assert found.machine == Machine(
        name="lab 7",
        cpus=2,
        memory_mb=1024,
        disks=[64 * MIB],
        os=guest_os("debian12"),
        firmware=Firmware.EFI,
        controller=Controller.PVSCSI,
        nics=[Nic(network="Lab", model=NicModel.VMXNET3)],
    )
    disk = found.disks[0]
    assert (disk.file, disk.format, disk.virtual_bytes, disk.gzip) == (
        "lab-disk1.vmdk",
        DiskFormat.VMDK,
        64 * MIB,
        False,
    )


def test_disks_come_in_the_order_of_their_places_not_of_the_text() -> None:
    hardware = DEFAULT_HARDWARE + drive("ovf:/disk/d1", place=1) + drive("ovf:/disk/d2", place=0, number=11)
    found = read(descriptor(files=FILES, disks=DISKS, hardware=hardware))
    assert [(disk.file, disk.virtual_bytes, disk.file_bytes) for disk in found.disks] == [
        ("b.vmdk", MIB, 9),
        ("a.vmdk", 1 << 30, None),
    ]


def test_disks_of_a_second_controller_come_after_those_of_the_first() -> None:
    second = """<Item><rasd:Address>1</rasd:Address><rasd:InstanceID>4</rasd:InstanceID>
      <rasd:ResourceType>20</rasd:ResourceType></Item>"""
    drives = drive("ovf:/disk/d1", parent=4, place=0) + drive("ovf:/disk/d2", parent=3, place=5, number=11)
    found = read(descriptor(files=FILES, disks=DISKS, hardware=DEFAULT_HARDWARE + second + drives))
    assert [disk.file for disk in found.disks] == ["b.vmdk", "a.vmdk"]


def test_hardware_of_another_configuration_is_left_out() -> None:
    options = """<DeploymentOptionSection><Info/><Configuration ovf:id="large"/>
      <Configuration ovf:id="small" ovf:default="true"/></DeploymentOptionSection>"""
    large = DEFAULT_HARDWARE.replace("<Item>", '<Item ovf:configuration="large">').replace("1024", "65536")
    hardware = DEFAULT_HARDWARE.replace("<Item>", '<Item ovf:configuration="small other">') + large
    found = read(descriptor(hardware=hardware + drive("ovf:/disk/vmdisk1"), more=options))
    assert found.machine.memory_mb == 1024


def test_what_virtualbox_says_beside_the_items_is_read() -> None:
    nic = """<Item><rasd:Connection>NAT</rasd:Connection><rasd:InstanceID>20</rasd:InstanceID>
      <rasd:ResourceType>10</rasd:ResourceType></Item>"""
    beside = """<vbox:Machine xmlns:vbox="http://www.virtualbox.org/ovf/machine" ovf:required="false"><Hardware>
      <Network><Adapter slot="0" enabled="true" MACAddress="080027AABB01" type="virtio"><NAT/></Adapter>
      <Adapter slot="1" enabled="false"/></Network></Hardware></vbox:Machine>"""
    found = read(descriptor(hardware=DEFAULT_HARDWARE + drive("/disk/vmdisk1") + nic, sections=beside))
    assert found.machine.nics == [Nic(network="NAT", model=NicModel.VIRTIO, mac="08:00:27:aa:bb:01")]


def test_compressed_files_are_marked() -> None:
    files = '<File ovf:href="lab-disk1.vmdk" ovf:id="file1" ovf:compression="gzip"/>'
    assert read(descriptor(files=files)).disks[0].gzip


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("byte", 1), ("byte * 2^30", 1 << 30), ("byte*2^20", MIB), ("byte * 512", 512), ("MegaBytes", MIB), ("", 1)],
)
def test_units_are_read(text: str, bytes_: int) -> None:
    assert unit_bytes(text, "x") == bytes_


ONE = '<File ovf:href="{href}" ovf:id="file1"/>'


@pytest.mark.parametrize(
    "href",
    [
        "http://host/d.vmdk",
        "https://host/d.vmdk",
        "file:///etc/shadow",
        "/etc/shadow",
        "../d.vmdk",
        "a/../../d",
        "",
        "..",
    ],
)
def test_files_elsewhere_are_refused(href: str) -> None:
    assert "no plain file name" in refusal_of(descriptor(files=ONE.format(href=href)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (descriptor(files=""), "without a file"),
        (descriptor(files=FILES.replace("b.vmdk", "a.vmdk"), disks=DISKS), "one file twice"),
        (descriptor(disks=DISKS.replace("f2", "f9"), files=FILES), "d2 without a file"),
        (descriptor(hardware=DEFAULT_HARDWARE + drive("ovf:/disk/none")), "no disk of it"),
        (descriptor(hardware=DEFAULT_HARDWARE + drive("ovf:/file/file1")), "no disk of it"),
        (descriptor(hardware=DEFAULT_HARDWARE + drive("/etc/shadow")), "no disk of it"),
        (descriptor(hardware=DEFAULT_HARDWARE), "without disks"),
        (descriptor(hardware=DEFAULT_HARDWARE + drive("/disk/vmdisk1") * 2), "in two drives"),
        (descriptor(hardware=DEFAULT_HARDWARE * 2 + drive("/disk/vmdisk1")), "says 2 times"),
        (descriptor(hardware=drive("/disk/vmdisk1")), "says 0 times"),
        (descriptor(disks=DISKS.replace('"1048576"', '"-1"'), files=FILES), "'-1' for the capacity of d2"),
        (descriptor(disks=DISKS.replace('"1048576"', '"1e9"'), files=FILES), "which is no number"),
        (descriptor(disks=DISKS.replace("byte * 2^30", "byte * 2^999"), files=FILES), "no unit"),
        (descriptor(disks=DISKS.replace(STREAM, "http://x/vhd"), files=FILES), "not read: 'http://x/vhd'"),
        (
            descriptor(disks=DISKS.replace("ovf:diskId", 'ovf:parentRef="d0" ovf:diskId'), files=FILES),
            "rests on another",
        ),
        (descriptor(files=ONE.format(href='a" ovf:chunkSize="10')), "in chunks"),
        (descriptor(files=ONE.format(href='a" ovf:compression="bzip2')), "packed with bzip2"),
        (descriptor(more='<VirtualSystem ovf:id="second"/>'), "describes 2 machines"),
        (descriptor().replace(b"VirtualSystem ", b"Content ").replace(b"/VirtualSystem>", b"/Content>"), "0 machines"),
        (b"<domain type='kvm'/>", "begins with domain"),
        (b"", "cannot be read as XML"),
        (b"<Envelope>", "cannot be read as XML"),
        (b"\xff\xfe\x00", "cannot be read as XML"),
        (b'<?xml version="1.0" encoding="none"?><Envelope/>', "cannot be read as XML"),
    ],
)
def test_what_does_not_fit_is_named(text: bytes, said: str) -> None:
    assert said in refusal_of(text)


@pytest.mark.parametrize(
    "prolog",
    [
        '<!DOCTYPE Envelope [<!ENTITY x SYSTEM "file:///etc/shadow">]>',
        '<!DOCTYPE Envelope SYSTEM "http://host/x.dtd">',
        '<!DOCTYPE e [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        "<!DOCTYPE Envelope>",
    ],
)
def test_a_dtd_is_refused_before_it_can_do_anything(prolog: str) -> None:
    text = descriptor(
        prolog=prolog, sections="<AnnotationSection><Info/><Annotation>&amp;</Annotation></AnnotationSection>"
    )
    assert "has a DTD" in refusal_of(text)


def test_an_entity_that_is_not_declared_is_refused() -> None:
    assert "cannot be read as XML" in refusal_of(descriptor(sections="<x>&secret;</x>"))


def test_xml_beyond_measure_is_refused() -> None:
    for text in (b"<a>" * (DEEPEST + 1), b"<a>" + b"<b/>" * 60_000 + b"</a>"):
        with pytest.raises(Refused, match="beyond measure"):
            parse_xml(text, "lab.ovf")
    with pytest.raises(Refused, match="at most"):
        parse_xml(b" " * (MOST_BYTES + 1), "lab.ovf")


@pytest.mark.parametrize(("family", "controller", "firmware"), [*product(Family, Controller, Firmware)])
def test_what_is_written_is_read_again(family: Family, controller: Controller, firmware: Firmware) -> None:
    count = min(4, places(controller))
    machine = Machine(
        name="Lab <7> & more",
        cpus=4,
        memory_mb=2048,
        disks=[(n + 1) * MIB for n in range(count)],
        os=guest_os("Debian GNU/Linux 12 (bookworm)"),
        firmware=firmware,
        controller=controller,
        nics=[Nic(network="VM Network", mac="00:50:56:01:02:03"), Nic(network="NAT", mac="08:00:27:01:02:04")],
        note='two\nlines & "quotes"',
        properties={"user-data": "a<b", "token": '"'},
    )
    files = [DiskFile(name=f"lab-disk{n}.vmdk", bytes=n + 1) for n in range(count)]
    found = read(describe(machine, files, family))
    assert found.machine.nics == machine.nics
    if family is Family.VIRTUALBOX and controller is Controller.PVSCSI:  # VirtualBox has none
        assert found.machine.controller is Controller.SCSI
    else:
        assert found.machine == machine
    assert [(disk.file, disk.virtual_bytes, disk.file_bytes) for disk in found.disks] == [
        (file.name, size, file.bytes) for file, size in zip(files, machine.disks, strict=True)
    ]


def test_the_length_does_not_depend_on_what_is_filled_in_later() -> None:
    machine = Machine(name="lab", cpus=1, memory_mb=1, disks=[MIB])
    one, other = (describe(machine, [DiskFile(name="d.vmdk", bytes=size)], Family.VIRTUALBOX) for size in (11, 99))
    assert one != other
    assert len(one) == len(other)


def test_items_are_as_the_schema_orders_them() -> None:
    machine = Machine(name="lab", cpus=1, memory_mb=1, disks=[MIB] * 2, nics=[Nic()])
    text = describe(machine, [DiskFile(name=f"{n}.vmdk", bytes=1) for n in range(2)], Family.VMWARE).decode()
    for item in re.findall(r"<ovf:Item>(.*?)</ovf:Item>", text, re.DOTALL):
        fields = re.findall(r"<rasd:(\w+)>", item)
        assert fields == sorted(fields)
    numbers = re.findall(r"<rasd:InstanceID>(\d+)<", text)
    assert numbers == [str(n) for n in range(1, 7)]
    assert re.findall(r"<rasd:Parent>(\d+)<", text) == ["3", "3"]


def test_many_disks_find_their_places() -> None:
    machine = Machine(name="lab", cpus=1, memory_mb=1, disks=[MIB] * 17, controller=Controller.PVSCSI)
    found = [(slot.controller, slot.unit) for slot in slots(machine)]
    assert (0, 7) not in found
    assert found[14:] == [(0, 15), (1, 0), (1, 1)]
    with pytest.raises(Refused, match="has 5 disks; ide takes 4"):
        Machine(name="lab", cpus=1, memory_mb=1, disks=[MIB] * 5, controller=Controller.IDE)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\x00b", "x" * 81])
def test_a_machine_without_a_usable_name_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="no name for a machine"):
        Machine(name=name, cpus=1, memory_mb=1, disks=[])


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("Debian GNU/Linux 12 (bookworm)", "debian12"),
        ("Debian12_64", "debian12"),
        ("debian13_64Guest", "debian13"),
        ("Debian_64", "debian"),
        ("Ubuntu 24.04 LTS", "ubuntu"),
        ("Rocky Linux 9", "redhat"),
        ("Red Hat Enterprise Linux 9 (64-bit)", "redhat"),
        ("openSUSE Leap", "suse"),
        ("other5xLinux64Guest", "linux"),
        ("Windows 11", "windows"),
        ("Microsoft Windows Server 2022", "windows-server"),
        ("windows9srv-64", "windows-server"),
        ("Plan 9", "other"),
    ],
)
def test_systems_are_known_by_their_names(said: str, word: str) -> None:
    assert guest_os(said).word == word


def test_each_system_is_found_by_its_own_words_and_names_no_newer_one_to_an_older_host() -> None:
    for system in SYSTEMS:
        assert guest_os(system.word) is system
        assert guest_os(system.said).cim == system.cim
        assert by_cim(system.cim).cim == system.cim
    debian = guest_os("debian12")
    assert [debian.vmx_word(hardware) for hardware in (13, 17, 21)] == ["debian10-64", "debian11-64", "debian12-64"]
    assert (debian.api_word(21), guest_os("ubuntu").api_word(13)) == ("debian12_64Guest", "ubuntu64Guest")
