"""One suite over every place that a repository can be in: real folders, a real ssh server, a real S3 server."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fix_repository import Addresses, ImageMaker

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import (
    GRACE,
    DiskRole,
    ImageDescriptor,
    Repository,
    collect,
    delete,
    garbage,
    is_held,
    open_repository,
    parse,
    verify,
    written,
)
from vcl_provision.images.repository.layout import blob_path, descriptor_path
from vcl_provision.model.faults import Cancelled, Refused


def later(days: float = 2) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def damage(repository: Repository, path: str, content: bytes) -> None:
    """Another content in a file that nobody may write to."""
    repository.place.remove(path)
    repository.place.write(path, content)


def test_a_revision_is_read_as_it_was_added(repository: Repository, maker: ImageMaker, patience: Patience) -> None:
    image = maker.image(
        metadata={"owner": "a person: with a colon", "colour": "grün\nund blau"},
        parent="debian12-v0",
        origin="vm-7",
        captured_at=datetime(2026, 11, 21, 10, 0, tzinfo=UTC),
        recipe="abc",
    )
    repository.add(image, maker.files, patience=patience)
    again = open_repository(repository.place.url)
    assert again.get("debian12-v1") == image
    assert again.revisions().good == [image]
    again.close()


def test_an_empty_repository_lists_nothing_and_says_so_when_asked(repository: Repository) -> None:
    assert repository.revisions().good == []
    with pytest.raises(Refused, match="holds no image debian12-v1"):
        repository.get("debian12-v1")
    with pytest.raises(Refused, match="holds no image that fits 'debian 12'"):
        repository.match("debian 12")


def test_contents_come_to_a_host_whole(
    repository: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path
) -> None:
    image = maker.image()
    repository.add(image, maker.files, patience=patience)
    heard: list[tuple[int, int]] = []
    host = tmp_path / "host"
    assert not is_held(host, image)
    repository.fetch(image, host, patience=patience, progress=lambda done, total: heard.append((done, total)))
    assert is_held(host, image)
    assert {(host / blob.sha256).read_bytes() for blob in image.blobs} == {
        b"a system",
        b"a kernel",
        b"a first ram disk",
    }
    assert heard[0] == (0, image.size_bytes)
    assert heard[-1] == (image.size_bytes, image.size_bytes)


def test_what_is_there_is_never_changed(repository: Repository, maker: ImageMaker, patience: Patience) -> None:
    image = maker.image()
    repository.add(image, maker.files, patience=patience)
    repository.add(image, {}, patience=patience)  # the same again is no change
    with pytest.raises(Refused, match="has a revision debian12-v1 already, and it is another one"):
        repository.add(maker.image(system=b"another"), maker.files, patience=patience)
    assert repository.get("debian12-v1") == image


def without_quick_sums(image: ImageDescriptor) -> ImageDescriptor:
    """As a version wrote it that knew no BLAKE3."""
    lines = [line for line in written(image).decode().splitlines() if "blake3" not in line]
    return parse("\n".join(lines).encode())


def test_a_revision_without_quick_sums_is_as_good(
    repository: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path
) -> None:
    image = maker.image()
    old = without_quick_sums(image)
    assert old.system_disk.blob.blake3 == ""
    repository.add(old, maker.files, patience=patience)
    repository.add(image, {}, patience=patience)  # it says no other contents
    found = repository.get(image.name)
    assert found.system_disk.blob.blake3 == ""
    repository.fetch(found, tmp_path / "host", patience=patience)
    assert is_held(tmp_path / "host", image)
    damage(repository, blob_path(image.system_disk.blob), b"b system")
    with pytest.raises(Refused, match="is damaged: its checksum differs"):
        repository.fetch(found, tmp_path / "another", patience=patience)
    assert not is_held(tmp_path / "another", image)


@pytest.mark.parametrize("wrong", ["sha256", "blake3"])
def test_what_comes_from_outside_is_checked_by_both_sums(
    repository: Repository, maker: ImageMaker, patience: Patience, wrong: str
) -> None:
    """Else a content could be taken for another: the one by whose SHA-256 it would be named on every VM host."""
    honest, other = maker.disk(b"a system"), maker.disk(b"b system")
    blob = replace(honest.blob, **{wrong: getattr(other.blob, wrong)})
    image = maker.image(disks=[replace(honest, blob=blob)])
    files = {**maker.files, blob.sha256: maker.files[honest.blob.sha256]}
    with pytest.raises(Refused, match="is damaged: its checksum differs"):
        repository.add(image, files, patience=patience)
    assert not repository.has(image.name)
    assert repository.place.entry(blob_path(blob)) is None


def test_of_two_that_add_another_revision_of_one_name_at_once_one_is_refused(
    repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    images = [maker.image(system=f"system {number}".encode()) for number in range(4)]

    def added(number: int) -> bool:
        try:
            repository.add(images[number], maker.files, patience=patience)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(added, range(4)))
    assert sum(done) == 1
    assert repository.get("debian12-v1") == images[done.index(True)]


def test_a_content_that_is_there_is_not_sent_again(
    repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    first = maker.image()
    repository.add(first, maker.files, patience=patience)
    heard: list[tuple[int, int]] = []
    second = maker.image("debian12-v2", disks=[maker.disk(b"a new system")])
    only = {second.system_disk.blob.sha256: maker.files[second.system_disk.blob.sha256]}
    repository.add(second, only, patience=patience, progress=lambda done, total: heard.append((done, total)))
    assert (second.system_disk.blob.bytes, second.system_disk.blob.bytes) in heard
    assert len(repository.place.entries_below("blobs")) == 4


def test_a_new_application_shares_the_system(repository: Repository, maker: ImageMaker, patience: Patience) -> None:
    disks = [maker.disk(b"system"), maker.disk(b"application 1", name="application", role=DiskRole.APPLICATION)]
    first = maker.image(disks=disks)
    repository.add(first, maker.files, patience=patience)
    system = repository.place.entry(blob_path(first.system_disk.blob))
    new = maker.disk(b"application 2", name="application", role=DiskRole.APPLICATION)
    second = first.with_application_disk(new, name="debian12-v2", revision=2)
    repository.add(second, {new.blob.sha256: maker.files[new.blob.sha256]}, patience=patience)
    assert repository.get("debian12-v2").system_disk == first.system_disk
    assert repository.place.entry(blob_path(second.system_disk.blob)) == system
    assert (second.parent, second.revision) == ("debian12-v1", 2)


@pytest.mark.parametrize(
    ("content", "said"), [(b"a syst", "is cut off: 6 of 8 bytes"), (b"A system", "is damaged: its checksum differs")]
)
def test_a_file_that_is_not_what_was_said_leaves_nothing(
    repository: Repository, maker: ImageMaker, patience: Patience, content: bytes, said: str
) -> None:
    image = maker.image()
    file = maker.files[image.system_disk.blob.sha256]
    file.write_bytes(content)
    with pytest.raises(Refused, match=said) as refused:
        repository.add(image, maker.files, patience=patience)
    assert str(file) in refused.value.said
    assert repository.revisions().good == []
    assert repository.place.entry(blob_path(image.system_disk.blob)) is None
    assert repository.place.entries_below("partial") == []


@pytest.mark.parametrize("content", [b"a syst", b"A system"])
def test_a_damaged_repository_brings_nothing_to_a_host(
    repository: Repository, maker: ImageMaker, patience: Patience, tmp_path: Path, content: bytes
) -> None:
    image = maker.image()
    repository.add(image, maker.files, patience=patience)
    damage(repository, blob_path(image.system_disk.blob), content)
    with pytest.raises(Refused, match=r"is cut off|is damaged|bytes instead of") as refused:
        repository.fetch(image, tmp_path / "host", patience=patience)
    assert image.system_disk.blob.sha256 in refused.value.said
    assert not (tmp_path / "host" / image.system_disk.blob.sha256).exists()


def test_every_content_is_verified_and_each_fault_named(
    repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    image = maker.image()
    repository.add(image, maker.files, patience=patience)
    assert [each.fault for each in verify(repository, [image], patience=patience)] == ["", "", ""]
    assert image.boot
    damage(repository, blob_path(image.system_disk.blob), b"A system")
    repository.place.remove(blob_path(image.boot.kernel))
    found = {each.said: each.fault for each in verify(repository, [image], patience=patience)}
    assert found == {
        "disk system of debian12-v1": "is damaged: its checksum differs",
        "kernel of debian12-v1": "is missing",
        "initrd of debian12-v1": "",
    }


def test_a_bad_descriptor_is_listed_stops_nothing_and_is_tried_again(
    repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    image = maker.image()
    repository.add(image, maker.files, patience=patience)
    repository.place.write(descriptor_path("bad-v1"), b"name: [unfinished")
    listing = repository.revisions()
    assert listing.good == [image]
    assert [(bad.name, "is no YAML" in bad.reason) for bad in listing.bad] == [("bad-v1", True)]
    with pytest.raises(Refused, match=r"the descriptor of bad-v1 in .* is no YAML"):
        repository.get("bad-v1")
    repository.place.remove(descriptor_path("bad-v1"))
    repository.add(replace(image, name="bad-v1"), {}, patience=patience)
    assert repository.revisions().bad == []


@pytest.mark.parametrize("addresses", ["folder", "sftp", "s3"], indirect=True)
@pytest.mark.parametrize("to", ["folder", "sftp", "s3"])
def test_a_revision_goes_from_any_place_to_any_other(
    addresses: Addresses, to: str, maker: ImageMaker, patience: Patience
) -> None:
    here = addresses.repository()
    there = replace(addresses, kind=to).repository()
    image = maker.image(metadata={"kept": "as it was"})
    here.add(image, maker.files, patience=patience)
    here.copy_to(there, image, patience=patience)
    assert there.get(image.name) == image
    assert [each.fault for each in verify(there, [image], patience=patience)] == ["", "", ""]


def test_garbage_is_what_nobody_names_and_was_not_written_lately(
    repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    first, second = maker.image(), maker.image("debian12-v2", disks=[maker.disk(b"a new system")])
    for image in (first, second):
        repository.add(image, maker.files, patience=patience)
    assert garbage(repository, now=datetime.now(UTC)) == []
    delete(repository, "debian12-v1", needed={}, patience=patience)
    assert garbage(repository, now=datetime.now(UTC)) == []  # within the grace it may yet be named
    planned = {each.path for each in garbage(repository, now=later())}
    assert blob_path(first.system_disk.blob) in planned
    assert {each.path for each in collect(repository, now=later(), patience=patience)} == planned
    assert garbage(repository, now=later()) == []
    assert [each.fault for each in verify(repository, [second], patience=patience)] == ["", "", ""]
    assert repository.place.entry(blob_path(first.system_disk.blob)) is None


def test_a_content_that_somebody_is_about_to_name_is_no_garbage(
    repository: Repository, maker: ImageMaker, patience: Patience
) -> None:
    """Although it has been there, nameless, for longer than the grace. Who names it is cut off in the middle."""
    image = maker.image()
    repository.add(image, maker.files, patience=patience)
    delete(repository, image.name, needed={}, patience=patience)
    time.sleep(1.1)  # times over sftp and from S3 have no parts of a second
    between = datetime.now(UTC).replace(microsecond=0)
    assert blob_path(image.system_disk.blob) in {each.path for each in garbage(repository, now=between + GRACE)}

    cut_off = Patience(60)
    new = maker.disk(b"a new disk", name="new", role=DiskRole.DATA)
    adding = maker.image("debian12-v2", disks=[*image.disks, new])
    with pytest.raises(Cancelled):
        repository.add(adding, maker.files, patience=cut_off, progress=lambda _done, _total: cut_off.cancel())
    assert not {blob_path(blob) for blob in image.blobs} & {
        each.path for each in garbage(repository, now=between + GRACE)
    }


def test_a_cancelled_transfer_goes_on_where_it_was(repository: Repository, maker: ImageMaker, tmp_path: Path) -> None:
    """Of some 70 MB at least a part of those that had been sent is not sent again."""
    image = maker.image(system=bytes(range(256)) * (70 << 12), boot=None)
    patience = Patience(120)

    def cancel(done: int, total: int) -> None:
        if done > total // 2:
            patience.cancel()

    with pytest.raises(Cancelled):
        repository.add(image, maker.files, patience=patience, progress=cancel)
    assert repository.revisions().good == []
    heard: list[int] = []
    repository.add(image, maker.files, patience=Patience(120), progress=lambda done, _: heard.append(done))
    assert heard[1] >= 32 << 20
    assert [each.fault for each in verify(repository, [image], patience=Patience(120))] == [""]
