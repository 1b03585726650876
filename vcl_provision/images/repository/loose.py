"""An image that is no repository's yet: files in a folder, with `image.yaml`, its descriptor, beside them.

Disks are called `NAME.FORMAT`, kernel and first ram disk `vmlinuz` and `initrd.img`. What a build leaves, and what is
added to a repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.images.repository.descriptor import Blob, ImageDescriptor
from vcl_provision.images.repository.document import LARGEST, parse, written
from vcl_provision.images.repository.sums import is_whole, known
from vcl_provision.images.repository.transfer import FileSource, chunks
from vcl_provision.model.faults import Refused

NAME = "image.yaml"
KERNEL, INITRD = "vmlinuz", "initrd.img"
_HINT = "build it again, or get it again from where it came from"


@dataclass(frozen=True, kw_only=True)
class LooseImage:
    """A descriptor, and where its contents lie: paths by SHA-256."""

    descriptor: ImageDescriptor
    files: Mapping[str, Path]

    @property
    def disk(self) -> Path:
        """The system's disk."""
        return self.files[self.descriptor.system_disk.blob.sha256]

    @property
    def kernel(self) -> Path | None:
        return self.files[self.descriptor.boot.kernel.sha256] if self.descriptor.boot else None

    @property
    def initrd(self) -> Path | None:
        boot = self.descriptor.boot
        return self.files[boot.initrd.sha256] if boot and boot.initrd else None


def write_loose(folder: Path, descriptor: ImageDescriptor) -> None:
    """Makes the folder an image: the last thing that whoever fills it does."""
    (folder / NAME).write_bytes(written(descriptor))


def read_loose(folder: Path) -> LooseImage:
    """Raises Refused if there is none, it cannot be understood, or a file is missing or has another length."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError as no:
        raise Refused(f"{folder} is no image: {NAME} is missing", _HINT) from no
    except OSError as no:
        raise Refused(f"{path} cannot be read: {no.strerror}", _HINT) from no
    try:
        descriptor = parse(content)
    except Refused as no:
        raise Refused(f"{path} {no.said}", no.hint) from no
    files = {blob.sha256: folder / name for name, blob in _names(descriptor).items()}
    for name, blob in _names(descriptor).items():
        _require_length(folder / name, blob)
    return LooseImage(descriptor=descriptor, files=files)


def verify_loose(folder: Path) -> LooseImage:
    """As `read_loose`, and takes the sum of every file. Raises Refused at the first difference."""
    image = read_loose(folder)
    for name, blob in _names(image.descriptor).items():
        path = folder / name
        if not is_whole(chunks(FileSource(file=path), 0, blob.bytes), known(blob), lambda _: None):
            raise Refused(f"{path} is damaged: its checksum differs", _HINT)
    return image


def _names(descriptor: ImageDescriptor) -> dict[str, Blob]:
    names = {f"{disk.name}.{disk.format}": disk.blob for disk in descriptor.disks}
    if descriptor.boot:
        names[KERNEL] = descriptor.boot.kernel
        if descriptor.boot.initrd:
            names[INITRD] = descriptor.boot.initrd
    return names


def _require_length(path: Path, blob: Blob) -> None:
    if not path.is_file():
        raise Refused(f"{path} is missing", _HINT)
    size = path.stat().st_size
    if size != blob.bytes:
        raise Refused(f"{path} has {size} bytes instead of {blob.bytes}", f"an interrupted copy, perhaps: {_HINT}")
