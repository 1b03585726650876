"""Listing a folder of descriptors: read once, bad ones among good ones, and what older versions left."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_repository import ImageMaker

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import Repository, open_repository
from vcl_provision.model.faults import Refused

TRUNCATED = b"format: '1'\nname: truncated-v1\ndisks: [{"


@pytest.fixture
def filled(folder_repository: Repository, maker: ImageMaker, patience: Patience) -> Repository:
    """A good one among bad ones of every kind."""
    image = maker.image()
    folder_repository.add(image, maker.files, patience=patience)
    good = (folder(folder_repository) / "debian12-v1.yaml").read_bytes()
    bad = {
        "truncated-v1": TRUNCATED,
        "typed-v1": good.replace(b"revision: 1", b"revision: one"),
        "missing-v1": good.replace(b"image: debian12\n", b""),
        "twice-v1": good + b"image: again\n",
        "tagged-v1": b"!!python/object/apply:os.system ['touch /tmp/vcl-descriptor-ran']",
        "another-v1": good,
        "binary-v1": bytes(range(256)),
    }
    for name, content in bad.items():
        (folder(folder_repository) / f"{name}.yaml").write_bytes(content)
    (folder(folder_repository) / "folder-v1.yaml").mkdir()
    (folder(folder_repository) / "notes.txt").write_text("no descriptor")
    (folder(folder_repository) / "dangling-v1.yaml").symlink_to("/nowhere")
    return folder_repository


def folder(repository: Repository) -> Path:
    path = repository.place.local_path("revisions")
    assert path
    return path


def test_bad_ones_are_listed_with_their_reason_and_the_good_one_is_found(filled: Repository) -> None:
    listing = filled.revisions()
    assert [image.name for image in listing.good] == ["debian12-v1"]
    reasons = {bad.name: bad.reason for bad in listing.bad}
    assert "is no YAML" in reasons.pop("truncated-v1")
    assert "is no whole number" in reasons.pop("typed-v1")
    assert reasons.pop("missing-v1") == "has no image"
    assert "gives image twice" in reasons.pop("twice-v1")
    assert "has the tag" in reasons.pop("tagged-v1")
    assert reasons.pop("another-v1") == "says that its name is 'debian12-v1'"
    assert "is no UTF-8" in reasons.pop("binary-v1")
    assert set(reasons) == {"dangling-v1"}
    assert not Path("/tmp/vcl-descriptor-ran").exists()
    assert filled.match("debian")[0].name == "debian12-v1"


def test_a_descriptor_is_read_once_and_again_when_it_has_changed(
    filled: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, read = filled.place, list[str]()

    def counted(path: str, most: int) -> bytes:
        read.append(path)
        return type(place).read(place, path, most)

    filled.revisions()
    monkeypatch.setattr(place, "read", counted)
    filled.revisions()
    filled.get("debian12-v1")
    assert [path for path in read if "dangling" not in path] == []
    mended = (folder(filled) / "debian12-v1.yaml").read_bytes().replace(b"debian12-v1", b"truncated-v1")
    (folder(filled) / "truncated-v1.yaml").write_bytes(mended)
    assert "truncated-v1" in {image.name for image in filled.revisions().good}
    assert [path for path in read if "dangling" not in path] == ["revisions/truncated-v1.yaml"]


def test_one_that_cannot_be_read_is_bad_until_it_can(filled: Repository) -> None:
    """A file of which nobody can read a byte, not even root: the first of a process's memory."""
    path = folder(filled) / "debian12-v1.yaml"
    content = path.read_bytes()
    path.unlink()
    path.symlink_to("/proc/self/mem")
    listing = filled.revisions()
    assert listing.good == []
    assert "cannot be read" in {bad.name: bad.reason for bad in listing.bad}["debian12-v1"]
    path.unlink()
    path.write_bytes(content)
    assert [image.name for image in filled.revisions().good] == ["debian12-v1"]


def test_a_repository_of_an_older_version_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "debian12-v1").mkdir()
    (tmp_path / "debian12-v1" / "image.json").write_text("{}")
    with pytest.raises(Refused, match=r"is a repository of folders with an image\.json"):
        open_repository(tmp_path).revisions()
