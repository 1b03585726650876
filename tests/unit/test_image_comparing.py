"""The database's catalogue beside descriptors: every difference is said, none is corrected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcl_provision.faces.images.adding import read_system
from vcl_provision.faces.images.comparing import compare, files_of
from vcl_provision.images.repository import (
    Blob,
    DirectBoot,
    Disk,
    DiskFormat,
    DiskRole,
    ImageDescriptor,
    Listing,
    OperatingSystem,
)
from vcl_provision.images.repository.catalogue import BadDescriptor
from vcl_provision.model.faults import Refused
from vcl_provision.store.revisions import CataloguedRevision

SYSTEM = Disk(
    name="system",
    role=DiskRole.SYSTEM,
    format=DiskFormat.QCOW2,
    blob=Blob(sha256="a" * 64, bytes=1),
    virtual_bytes=1 << 30,
)
IMAGE = ImageDescriptor(
    name="debian12-v1",
    image="debian12",
    revision=1,
    os=OperatingSystem(name="Debian 12", family="debian", version="12"),
    disks=[SYSTEM],
    boot=DirectBoot(kernel=Blob(sha256="b" * 64, bytes=2)),
)
ROW = CataloguedRevision(
    name="debian12-v1",
    image="debian12",
    revision=1,
    production=True,
    os="Debian 12",
    os_module="linux",
    min_ram_mb=512,
    min_cpus=1,
    files=files_of(IMAGE),
)


def found(image: ImageDescriptor | None = IMAGE, row: CataloguedRevision | None = ROW) -> list[tuple[str, bool]]:
    listing = Listing(good=[image] if image else [], bad=[])
    return [(finding.said, finding.fault) for finding in compare(listing, [row] if row else [])]


def test_what_agrees_is_not_mentioned() -> None:
    assert found() == []
    assert found(row=replace(ROW, min_ram_mb=1024)) == []  # an administrator may give more than it needs


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (replace(ROW, image="debian13"), "image is 'debian13' in the database and 'debian12' in its descriptor"),
        (replace(ROW, revision=2), "revision is 2 in the database and 1 in its descriptor"),
        (replace(ROW, os="Debian 13"), "operating system is 'Debian 13' in the database"),
        (replace(ROW, os_module="windows"), "OS module is 'windows' in the database"),
        (replace(ROW, min_ram_mb=256), "is given 256 as memory by the database, and needs 512 by its descriptor"),
        (replace(ROW, files=ROW.files[:1]), "consists of other files in the database: kernel"),
        (
            replace(ROW, files=[replace(ROW.files[0], sha256="f" * 64), *ROW.files[1:]]),
            "consists of other files in the database: system",
        ),
        (replace(ROW, files=list(reversed(ROW.files))), "consists of other files in the database: in another order"),
    ],
)
def test_each_difference_is_a_fault(row: CataloguedRevision, said: str) -> None:
    ((words, fault),) = found(row=row)
    assert words.startswith(said)
    assert fault


def test_what_only_one_of_them_has_is_said() -> None:
    assert found(image=None) == [("is in the database, and not in the repository", True)]
    assert found(row=None) == [("is in the repository, and not in the database", False)]
    assert found(row=replace(ROW, files=[])) == [("the database does not say what it consists of", False)]
    bad = Listing(good=[], bad=[BadDescriptor(name="debian12-v1", reason="has no name")])
    assert [(each.name, each.said) for each in compare(bad, [ROW])] == [("debian12-v1", "its descriptor has no name")]


@pytest.mark.parametrize(
    ("words", "key", "module"),
    [
        ("debian 12 server amd64", "debian 12 server amd64", "linux"),
        ("Debian 12", "debian 12 amd64", "linux"),
        ("ubuntu 24.04 desktop x86_64", "ubuntu 24.04 desktop amd64", "linux"),
        ("windows 11", "windows 11 amd64", "windows"),
        ("arch aarch64", "arch arm64", "linux"),
        ("debian 12 build test arm64", "debian 12 build test arm64", "linux"),
    ],
)
def test_what_runs_inside_is_read_from_words(words: str, key: str, module: str) -> None:
    assert (read_system(words).key, read_system(words).module) == (key, module)


def test_words_that_name_nothing_are_refused() -> None:
    for words in ("", "amd64"):
        with pytest.raises(Refused, match="names no operating system"):
            read_system(words)
