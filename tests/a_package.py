"""Packages for tests: descriptors as others write them, archives of any members, honest or not."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

STREAM = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
MIB = 1 << 20

RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"

DEFAULT_HARDWARE = """
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
  <rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
  <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
<Item><rasd:Address>0</rasd:Address><rasd:InstanceID>3</rasd:InstanceID>
  <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
"""


def drive(disk: str, *, place: int = 0, parent: int = 3, number: int = 10) -> str:
    """A disk drive of the hardware, with a disk of the DiskSection in it."""
    return f"""<Item><rasd:AddressOnParent>{place}</rasd:AddressOnParent>
      <rasd:HostResource>{disk}</rasd:HostResource><rasd:InstanceID>{number}</rasd:InstanceID>
      <rasd:Parent>{parent}</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>"""


def descriptor(
    *,
    files: str = '<File ovf:href="lab-disk1.vmdk" ovf:id="file1"/>',
    disks: str = f"""<Disk ovf:capacity="64" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk1"
      ovf:fileRef="file1" ovf:format="{STREAM}" ovf:populatedSize="3342336"/>""",
    hardware: str = DEFAULT_HARDWARE + drive("ovf:/disk/vmdisk1"),
    sections: str = "",
    more: str = "",
    prolog: str = "",
) -> bytes:
    """A descriptor in the manner of vSphere's export: default namespace, capacities in units, `vmw:` beside."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
{prolog}<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="{RASD}" xmlns:vssd="{VSSD}" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>{files}</References>
  <DiskSection><Info>Disks</Info>{disks}</DiskSection>
  <NetworkSection><Info>Networks</Info><Network ovf:name="Lab"><Description/></Network></NetworkSection>{more}
  <VirtualSystem ovf:id="lab"><Info>A virtual machine</Info><Name>lab 7</Name>
    <OperatingSystemSection ovf:id="96" vmw:osType="debian12_64Guest"><Info>Guest</Info></OperatingSystemSection>
    <VirtualHardwareSection><Info>Hardware</Info>
      <System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>vmx-19</vssd:VirtualSystemType></System>
      {hardware}
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>{sections}
  </VirtualSystem>
</Envelope>
""".encode()


def plain(name: str, content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    """A member that is a file."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """A member that is something else: a link, a device, a folder."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def write_tar(
    path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]], *, form: int = tarfile.USTAR_FORMAT
) -> Path:
    """An archive of these members, in this order."""
    with tarfile.open(path, "w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path
