"""The real `vcl images` on a lab: what an administrator does with a store, and what the database says beside it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_need import need
from fix_repository import ImageMaker
from fix_sim_lab import Vcl

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import ImageDescriptor, Repository, open_repository
from vcl_provision.images.repository.loose import write_loose


@pytest.fixture
def store(vcl: Vcl) -> Iterator[Repository]:
    """The lab's own, as its VM profile names it; empty again afterwards."""
    repository = open_repository(vcl.folder / "sim")
    yield repository
    for listing in (repository.revisions(),):
        for each in (*listing.good, *listing.bad):
            vcl.run("images", "delete", each.name, "--retire")
    vcl.run("images", "gc", "--older-than", "0")


@pytest.fixture
def built(tmp_path: Path, maker: ImageMaker) -> Path:
    """A folder as `vcl build` leaves it."""
    image = maker.image("web-host-v1")
    folder = tmp_path / "built"
    folder.mkdir()
    assert image.boot
    assert image.boot.initrd
    names = {"system.raw": image.system_disk.blob, "vmlinuz": image.boot.kernel, "initrd.img": image.boot.initrd}
    for name, blob in names.items():
        (folder / name).write_bytes(maker.files[blob.sha256].read_bytes())
    write_loose(folder, image)
    return folder


def test_a_built_image_is_added_offered_replaced_and_deleted(
    vcl: Vcl, store: Repository, built: Path
) -> None:
    assert "holds no images" in vcl.says("images", "list")
    said = vcl.says("images", "add", str(built), "--image", "web", "--system", "debian 12 server")
    assert "has web-v1 now" in said
    assert "vcl images add web-v1 --offer" in said
    assert [row["name"] for row in vcl.data("images", "list")] == ["web-v1"]
    assert [row["name"] for row in vcl.data("images", "list", "debian", "12")] == ["web-v1"]
    assert "role: system" in vcl.says("images", "show", "web-v1")
    assert vcl.data("images", "show", "debian 12 server")["key"] == "debian 12 server amd64"
    # a simulated hypervisor keeps its own image itself, which does not escape
    assert "in the repository, and not in the database" in vcl.run("images", "verify", status=1).stdout

    assert "vcl reserve web" in vcl.says("images", "add", "web-v1", "--offer")
    assert "web" in {row["name"] for row in vcl.data("images")}
    refused = vcl.refuses("images", "delete", "web-v1")
    assert "web-v1 is needed by" in refused
    assert "image web, whose users get it" in refused

    vcl.run("images", "add", str(built), "--image", "web", "--offer")
    assert [row["name"] for row in vcl.data("images", "list")] == ["web-v1", "web-v2"]
    vcl.run("images", "delete", "web-v1")
    assert [row["name"] for row in vcl.data("images", "list")] == ["web-v2"]


def test_verify_names_what_is_damaged_missing_bad_or_otherwise_in_the_database(
    vcl: Vcl, store: Repository, built: Path
) -> None:
    vcl.run("images", "add", str(built), "--image", "checked", "--offer")
    fine = vcl.run("images", "verify", "checked-v1").stdout
    assert "All is as it is said to be: 1 revision(s)." in fine
    image = store.get("checked-v1")
    disk = store.path_of(image.system_disk.blob)
    assert disk
    disk.unlink()
    disk.write_bytes(b"A system")
    store.place.write("revisions/bad-v1.yaml", b"name: [cut off")
    path = store.place.local_path("revisions/checked-v1.yaml")
    assert path
    path.chmod(0o644)
    path.write_text(path.read_text().replace("memory_mb: 512", "memory_mb: 4096"))
    ran = vcl.run("images", "verify", "--json", status=1)
    found = {(row["name"], row["said"]) for row in json.loads(ran.stdout) if row["fault"]}
    said = dict(found)
    assert said["disk system of checked-v1"] == "is damaged: its checksum differs"
    assert "is no YAML" in said["bad-v1"]
    assert said["checked-v1"] == "is given 512 as memory by the database, and needs 4096 by its descriptor"
    assert said["debian12-v1"] == "is in the database, and not in the repository"
    assert "bad-v1" in vcl.says("images", "list")
    assert "bad descriptors" in vcl.refuses("images", "gc")
    assert "the descriptor of bad-v1" in vcl.refuses("images", "show", "bad-v1")


def test_contents_that_nothing_names_go_and_only_after_a_while(vcl: Vcl, store: Repository, built: Path) -> None:
    vcl.run("images", "add", str(built), "--image", "short")
    vcl.run("images", "delete", "short-v1")
    assert vcl.data("images", "gc", "--dry-run") == []
    planned = vcl.data("images", "gc", "--dry-run", "--older-than", "0")
    assert len([row for row in planned if row["path"].startswith("blobs")]) == 3
    assert vcl.data("images", "gc", "--older-than", "0") == planned
    assert "There is nothing to remove" in vcl.says("images", "gc", "--older-than", "0")


def test_a_revision_is_copied_without_a_database(
    vcl: Vcl, tmp_path: Path, folder_repository: Repository, maker: ImageMaker
) -> None:
    image: ImageDescriptor = maker.image()
    folder_repository.add(image, maker.files, patience=Patience(60))
    here, there = str(folder_repository), str(tmp_path / "there")
    said = vcl.says("images", "copy", image.name, there, "--repository", here)
    assert f"{there} has debian12-v1 now" in said
    assert [row["state"] for row in vcl.data("images", "list", "--repository", there)] == ["ok"]
    assert "nearest" in vcl.refuses("images", "show", "ubuntu 24", "--repository", there)
    assert "is no address" in vcl.refuses("images", "list", "--repository", "ftp://somewhere/images")
    assert "holds a password" in vcl.refuses("images", "list", "--repository", "sftp://a:b@somewhere/images")


def test_a_repository_that_is_none_of_the_lab_s_is_looked_after_without_its_database(
    vcl: Vcl, store: Repository, built: Path, tmp_path: Path
) -> None:
    vcl.run("images", "add", str(built), "--image", "web", "--system", "debian 12", "--offer")
    there = ("--repository", str(tmp_path / "there"))
    vcl.run("images", "copy", "web-v1", there[1])
    assert "All is as it is said to be: 1" in vcl.says("images", "verify", *there)
    assert f"vcl images gc {' '.join(there)}" in vcl.says("images", "delete", "web-v1", *there)
    assert "image web, whose users get it" in vcl.refuses("images", "delete", "web-v1")
    assert "image web" in vcl.refuses("images", "delete", "web-v1", "--repository", str(vcl.folder / "x/../sim"))
    assert [row["name"] for row in vcl.data("images", "list")] == ["web-v1"]
    assert store.has("web-v1")


def test_an_image_leaves_as_a_package_and_comes_back_as_it_was(
    vcl: Vcl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are named as people name them: from where they are."""
    need("qemu-img")
    monkeypatch.chdir(tmp_path)
    Path("disk.raw").write_bytes(bytes(range(256)) * 4096 + bytes(3 << 20))
    where = ["--repository", "images"]
    vcl.run("images", "import", "disk.raw", "--image", "small", "--system", "debian 12", *where)
    for package in ("small.ova", "small.ovf"):
        vcl.run("images", "export", "small-v1", package, *where)
        vcl.run("images", "import", package, "--image", "back", *where)
    for name in ("back-v1", "back-v2"):
        back = vcl.data("images", "show", name, *where)
        assert (back["os"]["family"], back["os"]["version"]) == ("debian", "12")
        assert back["metadata"] == {"imported-from": "small-v1"}
        for kind in ("vmdk", "qcow2"):
            vcl.run("images", "export", name, f"{name}.{kind}", *where)
            compare = ["qemu-img", "compare", "-f", "raw", "-F", kind, "disk.raw", f"{name}.{kind}"]
            assert subprocess.run(compare, check=False, capture_output=True).returncode == 0
    assert "is there already" in vcl.refuses("images", "export", "back-v1", "back-v1.vmdk", *where)
    assert "none of" in vcl.refuses("images", "export", "back-v1", "back.iso", *where)
