"""Repositories of every kind, on what they really lie on: a folder, another machine's folder over ssh, an S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from a_port import free_port

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import (
    Blob,
    DirectBoot,
    Disk,
    DiskFormat,
    DiskRole,
    ImageDescriptor,
    OperatingSystem,
    Repository,
    blob_of,
    open_repository,
)

if TYPE_CHECKING:
    from fix_sshd import Sshd

KINDS = ["folder", "sftp", "s3"]


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A server of S3's protocol on loopback."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, name: str) -> str:
        """The address of a new bucket, as a repository's."""
        urlopen(Request(f"{self.endpoint}/{name}", method="PUT"), timeout=10).close()
        return f"s3://{name}/lab?endpoint={self.endpoint}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """moto's, as a process of its own; gone at the end."""
    os.environ.update(AWS_ACCESS_KEY_ID="lab", AWS_SECRET_ACCESS_KEY="lab", AWS_DEFAULT_REGION="us-east-1")
    server = S3Server(port=free_port())
    argv = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(server.port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, "moto's server ended"
        try:
            urlopen(server.endpoint, timeout=1).close()
        except OSError:
            return False
        return True

    try:
        Patience(60).until(answers, "moto's server", every=0.1)
        yield server
    finally:
        process.kill()
        process.wait()


@dataclass
class Addresses:
    """Makes the address of a new repository of one kind."""

    kind: str
    folder: Path
    request: pytest.FixtureRequest
    made: list[Repository] = field(default_factory=list[Repository])

    def new(self) -> str:
        number = len(list(self.folder.iterdir()))
        place = self.folder / str(number)
        place.mkdir()
        if self.kind == "s3":
            server: S3Server = self.request.getfixturevalue("s3_server")
            return server.bucket(f"lab-{uuid4()}")
        if self.kind == "sftp":
            return sftp_address(self.request.getfixturevalue("sshd"), place)
        return str(place)

    def repository(self) -> Repository:
        self.made.append(open_repository(self.new()))
        return self.made[-1]


def sftp_address(sshd: Sshd, folder: Path) -> str:
    """A folder as it is reached through the server."""
    key, known = sshd.folder / "client_key", sshd.folder / "known_hosts"
    key.touch(mode=0o600)
    key.write_text(sshd.key.private.reveal())
    known.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host.public}\n")
    return f"sftp://127.0.0.1:{sshd.port}{folder}?keyfile={key}&known_hosts={known}"


@pytest.fixture(params=KINDS)
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Addresses]:
    """One after the other, every kind of place that a repository can be in."""
    folder = tmp_path / "places"
    folder.mkdir()
    addresses = Addresses(request.param, folder, request)
    yield addresses
    for repository in addresses.made:
        repository.close()


@pytest.fixture
def repository(addresses: Addresses) -> Repository:
    return addresses.repository()


@pytest.fixture
def folder_repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


@dataclass
class ImageMaker:
    """Makes descriptors with files to them, whose contents are told from each other by their text."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict[str, Path])

    def blob(self, content: bytes) -> Blob:
        path = self.folder / f"file-{sha256(content).hexdigest()[:12]}"
        path.write_bytes(content)
        blob = blob_of(path)
        self.files[blob.sha256] = path
        return blob

    def disk(self, content: bytes, *, name: str = "system", role: DiskRole = DiskRole.SYSTEM) -> Disk:
        return Disk(name=name, role=role, format=DiskFormat.RAW, blob=self.blob(content), virtual_bytes=1 << 20)

    def image(self, name: str = "debian12-v1", system: bytes = b"a system", **changes: object) -> ImageDescriptor:
        """One with a system's disk, a kernel and its first ram disk."""
        image, _, number = name.rpartition("-v")
        said: dict[str, object] = {
            "name": name,
            "image": image,
            "revision": int(number),
            "os": OperatingSystem(name="Debian 12", family="debian", version="12", variant="server"),
            "disks": [self.disk(system)],
            "boot": DirectBoot(kernel=self.blob(b"a kernel"), initrd=self.blob(b"a first ram disk"), command_line="ro"),
        }
        return ImageDescriptor(**{**said, **changes})  # type: ignore[arg-type]


@pytest.fixture
def maker(tmp_path: Path) -> ImageMaker:
    folder = tmp_path / "made"
    folder.mkdir()
    return ImageMaker(folder)
