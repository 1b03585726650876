"""All that a module file may import: the contracts, the values they speak of, the errors they raise."""

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.drivers.driver import API, Driver, NoOptions
from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.provisioner import (
    Addresses,
    Disks,
    Found,
    GuestExec,
    Inventory,
    LocalHost,
    LocalImage,
    LocalLab,
    LocalSlot,
    Masters,
    Metrics,
    Provisioner,
    Reading,
    Snapshots,
    StoredMaster,
)
from vcl_provision.drivers.task import Task
from vcl_provision.images.carriers.bootparams import bootparams_image
from vcl_provision.images.carriers.nocloud import nocloud_iso
from vcl_provision.images.carriers.properties import PROPERTY_FLAGS, guest_properties, guestinfo
from vcl_provision.images.carriers.qemu import FW_CFG_NAME, fw_cfg_file, fw_cfg_secrets, oem_strings, pull_serial
from vcl_provision.images.carriers.vfat import nocloud_vfat
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.images.kvm_probe import BOOT_SECTOR
from vcl_provision.images.passwords import password_hash
from vcl_provision.images.repository import (
    Blob,
    DirectBoot,
    Disk,
    DiskFormat,
    DiskRole,
    ImageDescriptor,
    Leftover,
    OperatingSystem,
    Progress,
    Repository,
    Sink,
    blob_of,
    is_held,
    leftovers,
    open_repository,
    remove_leftovers,
    space_of,
)
from vcl_provision.model.faults import (
    Cancelled,
    CommandFailed,
    ConnectionDropped,
    HostUnreachable,
    Ran,
    Refused,
    TimedOut,
    Transient,
    WrongHostKey,
)
from vcl_provision.model.lab import Address, Computer, ConnectMethod, ConnectPort, Revision, User, VmHost, VmProfile
from vcl_provision.model.options import Seconds
from vcl_provision.model.secret import Secret
from vcl_provision.model.space import A_MACHINE, HostDisks, Space, full
from vcl_provision.model.states import ComputerKind, ComputerState, NodeStatus, Power, RequestState
from vcl_provision.model.steps import Step

__all__ = [
    "API",
    "A_MACHINE",
    "BOOT_SECTOR",
    "FW_CFG_NAME",
    "PROPERTY_FLAGS",
    "Address",
    "Addresses",
    "Blob",
    "Cancelled",
    "Channel",
    "CommandFailed",
    "Computer",
    "ComputerKind",
    "ComputerState",
    "ConnectMethod",
    "ConnectPort",
    "ConnectionDropped",
    "DirectBoot",
    "Disk",
    "DiskFormat",
    "DiskRole",
    "Disks",
    "Driver",
    "FirstBoot",
    "Found",
    "Guest",
    "GuestExec",
    "HostDisks",
    "HostUnreachable",
    "ImageDescriptor",
    "Inventory",
    "Leftover",
    "LocalHost",
    "LocalImage",
    "LocalLab",
    "LocalSlot",
    "Masters",
    "Metrics",
    "NoOptions",
    "NodeStatus",
    "OperatingSystem",
    "Patience",
    "Power",
    "Progress",
    "Provisioner",
    "Ran",
    "Reading",
    "Refused",
    "Repository",
    "RequestState",
    "Revision",
    "Seconds",
    "Secret",
    "Sink",
    "Snapshots",
    "Space",
    "Step",
    "StoredMaster",
    "Task",
    "TimedOut",
    "Transient",
    "User",
    "VmHost",
    "VmProfile",
    "WrongHostKey",
    "blob_of",
    "bootparams_image",
    "full",
    "fw_cfg_file",
    "fw_cfg_secrets",
    "guest_properties",
    "guestinfo",
    "is_held",
    "leftovers",
    "nocloud_iso",
    "nocloud_vfat",
    "oem_strings",
    "open_repository",
    "password_hash",
    "pull_serial",
    "remove_leftovers",
    "space_of",
]
