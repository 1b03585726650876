"""Images that can be trusted: revisions described in YAML, contents named by their SHA-256, in whatever place."""

from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.images.repository.catalogue import BadDescriptor, Listing
from vcl_provision.images.repository.checking import Checked, remove_damaged, verify
from vcl_provision.images.repository.delivery import is_held
from vcl_provision.images.repository.descriptor import (
    Blob,
    DirectBoot,
    Disk,
    DiskRole,
    ImageDescriptor,
    OperatingSystem,
)
from vcl_provision.images.repository.document import parse, written
from vcl_provision.images.repository.garbage import GRACE, Garbage, collect, delete, garbage
from vcl_provision.images.repository.leftovers import Leftover, leftovers, remove_leftovers
from vcl_provision.images.repository.on_demand import find_or_build
from vcl_provision.images.repository.place import Sink
from vcl_provision.images.repository.space import space_of
from vcl_provision.images.repository.store import Repository, open_repository
from vcl_provision.images.repository.transfer import Progress, blob_of

__all__ = [
    "GRACE",
    "BadDescriptor",
    "Blob",
    "Checked",
    "DirectBoot",
    "Disk",
    "DiskFormat",
    "DiskRole",
    "Garbage",
    "ImageDescriptor",
    "Leftover",
    "Listing",
    "OperatingSystem",
    "Progress",
    "Repository",
    "Sink",
    "blob_of",
    "collect",
    "delete",
    "find_or_build",
    "garbage",
    "is_held",
    "leftovers",
    "open_repository",
    "parse",
    "remove_damaged",
    "remove_leftovers",
    "space_of",
    "verify",
    "written",
]
