"""Disks of some MiB with content in them, and qemu-img to make and judge others."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import TypedDict

import pytest
from a_need import need, need_root

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience

MIB = 1 << 20


@pytest.fixture
def here() -> LocalChannel:
    """The channel that qemu-img runs on."""
    need("qemu-img", "prlimit")
    return LocalChannel(where="here")


class How(TypedDict):
    """What every function over disks is handed."""

    channel: LocalChannel
    patience: Patience


@pytest.fixture
def how(here: LocalChannel, patience: Patience) -> How:
    return How(channel=here, patience=patience)


@pytest.fixture(scope="session")
def raw_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 MiB: some that do not compress, some that do, holes, and an end that is not zero."""
    disk = tmp_path_factory.mktemp("disks") / "disk.raw"
    with disk.open("wb") as file:
        file.write(random.Random(7).randbytes(MIB))
        file.seek(5 * MIB)
        file.write(b"content " * 65536)
        file.seek(16 * MIB - 512)
        file.write(b"\xee" * 512)
    return disk


@pytest.fixture(scope="session")
def other_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 MiB of other content."""
    disk = tmp_path_factory.mktemp("disks") / "other.raw"
    disk.write_bytes(b"\1" * MIB + bytes(7 * MIB))
    return disk


@pytest.fixture
def narrow(tmp_path: Path) -> Generator[Path]:
    """A folder with room for 1 MiB."""
    need_root()
    folder = tmp_path / "narrow"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "vcl-test", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def block_device(tmp_path: Path) -> Generator[Path]:
    """A block device of 20 MiB."""
    need_root()
    need("losetup")
    file = tmp_path / "device"
    file.write_bytes(bytes(20 * MIB))
    made = subprocess.run(["losetup", "-f", "--show", str(file)], check=True, capture_output=True, text=True)
    try:
        yield Path(made.stdout.strip())
    finally:
        subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)
