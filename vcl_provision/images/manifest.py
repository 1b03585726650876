"""`image.json`: what an image in a repository consists of, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar, cast

from vcl_provision.model.faults import Refused

NAME = "image.json"
FORMAT = 1
T = TypeVar("T")


class Role(StrEnum):
    """What a file of an image is for."""

    DISK = "disk"
    KERNEL = "kernel"
    INITRD = "initrd"


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """One file of an image. `format` is QEMU's word for a disk's (qcow2, raw, vmdk), `raw` for anything else."""

    role: Role
    name: str
    format: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ImageManifest:
    """What `image.json` says. Sizes in bytes, memory in MiB; `recipe` names what the image was built from, if it was.

    An image with a kernel is booted with it and `kernel_command_line`; one without boots from its disk.
    """

    name: str
    os: str
    architecture: str
    kernel_command_line: str
    min_memory_mb: int
    virtual_size_bytes: int
    files: Sequence[ImageFile]
    recipe: str = ""

    def file(self, role: Role) -> ImageFile | None:
        """The first file with this role."""
        return next((file for file in self.files if file.role == role), None)

    @property
    def size_bytes(self) -> int:
        """What the image takes in the repository."""
        return sum(file.bytes for file in self.files)


def describe_file(path: Path, role: Role, image_format: str) -> ImageFile:
    """Measures a file that is part of an image."""
    return ImageFile(
        role=role, name=path.name, format=image_format, bytes=path.stat().st_size, sha256=checksum(path)
    )


def write_manifest(folder: Path, manifest: ImageManifest) -> None:
    """Makes the folder an image. The last thing that a build does."""
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> ImageManifest:
    """Raises Refused if there is none, or it cannot be understood: the message names the file and what is wrong."""
    path = folder / NAME
    try:
        said: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Refused(f"{folder} is no image: {NAME} is missing", "build or retrieve the image again") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _bad(path, f"cannot be read ({error})") from error
    if not isinstance(said, dict):
        raise _bad(path, "holds no JSON object")
    return _manifest(path, cast(Mapping[str, object], said))


def verify(folder: Path) -> ImageManifest:
    """Reads the manifest and compares every file with it, sizes first. Raises Refused at the first difference."""
    manifest = read_manifest(folder)
    for file in manifest.files:
        _verify_size(folder / file.name, file)
    for file in manifest.files:
        if checksum(folder / file.name) != file.sha256:
            raise Refused(f"{folder / file.name} is damaged: its checksum differs", "build or retrieve the image again")
    return manifest


def checksum(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify_size(path: Path, file: ImageFile) -> None:
    if not path.is_file():
        raise Refused(f"{path} is missing", "build or retrieve the image again")
    size = path.stat().st_size
    if size != file.bytes:
        said = f"{path} has {size} bytes instead of {file.bytes}"
        raise Refused(said, "an interrupted copy, perhaps: build or retrieve the image again")


def _manifest(path: Path, said: Mapping[str, object]) -> ImageManifest:
    number = _field(path, said, "format", int)
    if number != FORMAT:
        raise _bad(path, f"has format {number}, this version reads {FORMAT}")
    manifest = ImageManifest(
        name=_field(path, said, "name", str),
        os=_field(path, said, "os", str),
        architecture=_field(path, said, "architecture", str),
        kernel_command_line=_field(path, said, "kernel_command_line", str),
        min_memory_mb=_field(path, said, "min_memory_mb", int),
        virtual_size_bytes=_field(path, said, "virtual_size_bytes", int),
        files=[_file(path, file) for file in cast(list[object], _field(path, said, "files", list))],
        recipe=_field(path, said, "recipe", str),
    )
    if manifest.file(Role.DISK) is None:
        raise _bad(path, "names no disk")
    return manifest


def _file(path: Path, said: object) -> ImageFile:
    if not isinstance(said, dict):
        raise _bad(path, "has a file that is no JSON object")
    said = cast(Mapping[str, object], said)
    name, role = _field(path, said, "name", str), _field(path, said, "role", str)
    if name in {"", ".", "..", NAME} or "/" in name:
        raise _bad(path, f"has a file named {name!r}, which does not lie in the image's folder")
    if role not in set(Role):
        raise _bad(path, f"gives {name} the unknown role {role!r}")
    return ImageFile(
        role=Role(role),
        name=name,
        format=_field(path, said, "format", str),
        bytes=_field(path, said, "bytes", int),
        sha256=_field(path, said, "sha256", str),
    )


def _field(path: Path, said: Mapping[str, object], name: str, kind: type[T]) -> T:
    value = said.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _bad(path, f"has no {name}" if value is None else f"has {value!r} as {name}, which is no {kind.__name__}")
    return value


def _bad(path: Path, said: str) -> Refused:
    return Refused(f"{path} {said}", "restore it from where the image came from, or build the image again")
