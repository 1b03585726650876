"""All that a module file may import: the contracts, the values they speak of, the errors they raise."""

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.drivers.driver import API, Driver, NoOptions
from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.passwords import password_hash
from vcl_provision.drivers.provisioner import (
    Addresses,
    Found,
    GuestExec,
    Inventory,
    LocalHost,
    LocalImage,
    LocalLab,
    LocalSlot,
    Metrics,
    Provisioner,
    Reading,
    Snapshots,
)
from vcl_provision.drivers.task import Task
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.images.manifest import ImageFile, ImageManifest, Role, describe_file, read_manifest, write_manifest
from vcl_provision.images.manifest import verify as verify_image
from vcl_provision.images.nocloud import nocloud_iso
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
from vcl_provision.model.states import ComputerKind, ComputerState, NodeStatus, Power, RequestState
from vcl_provision.model.steps import Step

__all__ = [
    "API",
    "Address",
    "Addresses",
    "Cancelled",
    "Channel",
    "CommandFailed",
    "Computer",
    "ComputerKind",
    "ComputerState",
    "ConnectMethod",
    "ConnectPort",
    "ConnectionDropped",
    "Driver",
    "FirstBoot",
    "Found",
    "Guest",
    "GuestExec",
    "HostUnreachable",
    "ImageFile",
    "ImageManifest",
    "Inventory",
    "LocalHost",
    "LocalImage",
    "LocalLab",
    "LocalSlot",
    "Metrics",
    "NoOptions",
    "NodeStatus",
    "Patience",
    "Power",
    "Provisioner",
    "Ran",
    "Reading",
    "Refused",
    "RequestState",
    "Revision",
    "Role",
    "Seconds",
    "Secret",
    "Snapshots",
    "Step",
    "Task",
    "TimedOut",
    "Transient",
    "User",
    "VmHost",
    "VmProfile",
    "WrongHostKey",
    "describe_file",
    "nocloud_iso",
    "password_hash",
    "read_manifest",
    "verify_image",
    "write_manifest",
]
