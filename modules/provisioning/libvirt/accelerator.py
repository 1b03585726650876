"""Does KVM work on a VM host: answered by booting something, since a device that opens proves nothing."""

from __future__ import annotations

import threading
import uuid
from xml.etree.ElementTree import Element, SubElement, tostring

from vcl_provision.drivers import Patience, TimedOut

from .binding import libvirt
from .connections import gone_is_fine
from .volumes import put_bytes, remove_file

_PROGRAM = bytes.fromhex(
    # As a PC starts, in 16-bit real mode: no interrupts, clear 12 KiB at 0x1000 for page tables.
    "fa 6631c0 8ed8 8ec0 66bf00100000 66b9000c0000 fc 66f3ab"
    # Map the first 2 MiB to itself: level 4 at 0x1000, level 3 at 0x2000, level 2 at 0x3000.
    "66c706001003200000 66c706002003300000 66c706003083000000"
    # CR3 = 0x1000; CR4: PAE; EFER (MSR 0xc0000080): long mode; descriptor table; CR0: paging, protection.
    "66b800100000 0f22d8 0f20e0 0c20 0f22e0 66b9800000c0 0f32 80cc01 0f30"
    "660f0116987c 0f20c0 660d01000080 0f22c0"
    "ea687c0800"  # jump to 64-bit code
    "b9002d3101 890c2500800000 ffc9 75f5"  # 20 million times: store a counter at 0x8000
    "66ba0406 66b80020 66ef"  # port 0x604, the ACPI control register where QEMU's BIOS puts it: soft off
    "f4 ebfd 0f1f00"  # hlt, for ever
    "0000000000000000 00000000009a2000"  # the descriptor table: none, 64-bit code
    "0f00 887c0000"  # its length and place
)
BOOT_SECTOR = _PROGRAM.ljust(510, b"\0") + b"\x55\xaa"
"""What BIOS starts, 512 bytes of ours: enters 64-bit mode with paging as every kernel does, works, and turns the
machine off, which it cannot do without having done the rest. There are hosts whose KVM runs a BIOS, and then hangs."""

_ENOUGH = 3.0
"""Seconds that a machine gets; where KVM works it needs less than one, and so it does without."""


def kvm_works(connection: libvirt.virConnect, pool: libvirt.virStoragePool, patience: Patience) -> bool:
    """Boots the smallest machine there is under KVM; true if it turned itself off. It dies with the connection."""
    name = f"vcl-probe-{uuid.uuid4().hex[:12]}"
    disk = put_bytes(connection, pool, f"{name}.img", BOOT_SECTOR)
    try:
        return _turns_itself_off(connection, _described(name, disk, "kvm"), patience)
    finally:
        remove_file(pool, f"{name}.img")


def _turns_itself_off(connection: libvirt.virConnect, description: str, patience: Patience) -> bool:
    try:
        flags = libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY
        domain = connection.createXML(description, flags)
    except libvirt.libvirtError:
        return False  # no such device, not allowed, another architecture
    off = threading.Event()
    kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
    listening = connection.domainEventRegisterAny(  # pyright: ignore[reportUnknownMemberType] - callbacks of all kinds
        domain, kind, _heard, off
    )
    try:
        domain.resume()
        patience.at_most(_ENOUGH).until(lambda: off.wait(0.02), "the probe to turn itself off", every=0)
    except TimedOut:
        return False
    finally:
        connection.domainEventDeregisterAny(listening)
        gone_is_fine(domain.destroy, libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
    return True


def _heard(
    _connection: libvirt.virConnect, _domain: libvirt.virDomain, event: int, detail: int, off: threading.Event
) -> None:
    """Off because the guest wanted it; not because QEMU fell over."""
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED and detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
        off.set()


def _described(name: str, disk: str, kind: str) -> str:
    root = Element("domain", type=kind)
    SubElement(root, "name").text = name
    SubElement(root, "memory", unit="MiB").text = "16"
    SubElement(SubElement(root, "os"), "type", machine="pc").text = "hvm"
    SubElement(SubElement(root, "features"), "acpi")
    drive = SubElement(SubElement(root, "devices"), "disk", type="file", device="disk")
    SubElement(drive, "driver", name="qemu", type="raw")
    SubElement(drive, "source", file=disk)
    SubElement(drive, "target", dev="hda", bus="ide")  # QEMU's BIOS does not read so small a disk from virtio
    return tostring(root, encoding="unicode")
