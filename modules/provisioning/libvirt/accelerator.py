"""Does KVM work on a VM host: answered by booting something, since a device that opens proves nothing."""

from __future__ import annotations

import threading
import uuid
from xml.etree.ElementTree import Element, SubElement, tostring

from vcl_provision.drivers import BOOT_SECTOR, Patience, TimedOut

from .binding import libvirt
from .connections import gone_is_fine
from .volumes import put_bytes, remove_file

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
