"""Room on a real libvirt's hosts: measured, asked for before it is used, and what nothing needs made free again."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest
from a_lab import Lab, a_lab
from a_vcl import vcl_here
from fix_libvirt import LibvirtBench, spare_image

from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.conformance.ports import EagerGuests
from vcl_provision.drivers.task import RoomAlone
from vcl_provision.images.repository import Repository, delete, open_repository
from vcl_provision.images.repository.layout import partial_path
from vcl_provision.model.faults import Refused
from vcl_provision.model.lab import VmHost
from vcl_provision.model.space import Space
from vcl_provision.model.states import Power
from vcl_provision.store.database import Connection

MB = 1 << 20


@pytest.fixture
def disk_of_its_own(libvirt_bench: LibvirtBench, tmp_path: Path) -> Path:
    """A file system of 300 MiB that is not the repository's, mounted where only the daemon sees it."""
    place, daemon = tmp_path / "disk", libvirt_bench.daemon()
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(place)]
    subprocess.run(["nsenter", f"--target={daemon}", "--mount", *mount], check=True)
    return Path(f"/proc/{daemon}/root{place}")


@dataclass
class Asked(RoomAlone):
    """Hears what room is asked for."""

    heard: list[tuple[int, Space]] = field(default_factory=list[tuple[int, Space]])

    @contextmanager
    def for_masters(
        self, host: VmHost, needed: Callable[[], int], measure: Callable[[], Space], *, patience: Patience
    ) -> Generator[None]:
        self.heard.append((needed(), measure()))
        with super().for_masters(host, needed, measure, patience=patience):
            yield


def test_a_host_tells_the_room_of_both_its_disks(libvirt_bench: LibvirtBench, disk_of_its_own: Path) -> None:
    host = libvirt_bench.host(datastore_path=f"{disk_of_its_own}/not/there")
    found = libvirt_bench.provisioner(libvirt_bench.computer(1)).disks(host)
    assert (found.masters.total, found.masters.free) == (300 * MB, 300 * MB)
    assert found.machines.path == host.profile.vm_path
    assert found.machines.total == shutil.disk_usage(host.profile.vm_path).total
    assert not (disk_of_its_own / "not").exists()


def test_a_master_is_brought_only_if_what_the_profile_keeps_stays_free(
    libvirt_bench: LibvirtBench, disk_of_its_own: Path
) -> None:
    bench, asked = libvirt_bench, Asked()
    size = open_repository(bench.lab.repository_path).get("small-v1").size_bytes
    module = bench.provisioner(bench.computer(1), room=asked)
    kept = (300 * MB - size) // MB
    greedy = bench.host(datastore_path=str(disk_of_its_own), keep_free_mb=kept + 1)
    with pytest.raises(Refused, match=rf"is full: {300 * MB} bytes are free, {size} are needed"):
        module.retrieve_image(bench.revision(), greedy)
    assert list(disk_of_its_own.iterdir()) == []
    host = bench.host(datastore_path=str(disk_of_its_own), keep_free_mb=kept)
    module.retrieve_image(bench.revision(), host)
    module.retrieve_image(bench.revision(), host)  # is there
    assert [needed for needed, _ in asked.heard] == [size, size]
    assert asked.heard[0][1].free == 300 * MB


def test_what_is_there_of_a_transfer_that_was_cut_off_is_not_needed_again(
    libvirt_bench: LibvirtBench, disk_of_its_own: Path
) -> None:
    bench = libvirt_bench
    repository = open_repository(bench.lab.repository_path)
    image, asked = repository.get("small-v1"), Asked()
    blob = image.system_disk.blob
    begun = disk_of_its_own / partial_path(blob)
    begun.parent.mkdir(parents=True)
    with begun.open("wb") as file:
        file.writelines(islice(repository.chunks(blob), 20))
    module = bench.provisioner(bench.computer(1), room=asked)
    module.retrieve_image(bench.revision(), bench.host(datastore_path=str(disk_of_its_own)))
    assert asked.heard[0][0] == image.size_bytes - 20 * MB


def test_no_machine_is_made_where_machines_have_no_room_and_no_master_is_brought_for_it(
    libvirt_bench: LibvirtBench, tmp_path: Path
) -> None:
    total = shutil.disk_usage(tmp_path).total >> 20
    host = libvirt_bench.host(datastore_path=str(tmp_path / "masters"), keep_free_mb=total)
    computer, firstboot = libvirt_bench.firstboot(libvirt_bench.computer(1, host=host))
    module = libvirt_bench.provisioner(computer)
    said = rf"machines is full: \d+ bytes are free, {128 * MB} are needed and {total * MB} stay free"
    with pytest.raises(Refused, match=said):
        module.load(computer, libvirt_bench.revision(), firstboot)
    assert not (tmp_path / "masters").exists()
    assert libvirt_bench.files(computer) == []


# vcl images gc, as people run it.


@dataclass(kw_only=True)
class TwoRepositories:
    """A lab with two VM hosts, each with a repository and a datastore of its own."""

    bench: LibvirtBench
    lab: Lab
    dsn: str
    hosts: list[VmHost]

    def gc(self, *words: str, status: int = 0) -> set[tuple[str, str]]:
        """(Where, which file) it removed, but for claims: who adds claims what is there, for a while."""
        ran = vcl_here(("images", "gc", "--older-than", "0", "--json", *words), VCL_DSN=self.dsn)
        assert ran.returncode == status, ran.stderr
        self.said = ran.stderr
        rows = [(row["where"], row["path"]) for row in json.loads(ran.stdout)]
        return {(where, path) for where, path in rows if not path.startswith("claims/")}

    def repository(self, number: int) -> Repository:
        return open_repository(self.hosts[number].profile.repository_path)

    def blob_of_nobody(self, number: int) -> tuple[str, str]:
        name = f"{number}" * 64
        path = f"blobs/sha256/{name[:2]}/{name}"
        repository = self.hosts[number].profile.repository_path
        file = Path(repository, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"nobody's")
        return repository, path


@pytest.fixture
def two(libvirt_bench: LibvirtBench, conn: Connection, dsn: str, tmp_path: Path) -> TwoRepositories:
    bench = libvirt_bench
    hosts: list[VmHost] = []
    for number in (0, 1):
        repository = tmp_path / f"repository-{number}"
        open_repository(bench.lab.repository_path).copy_to(
            open_repository(repository),
            open_repository(bench.lab.repository_path).get("small-v1"),
            patience=Patience(60),
        )
        hosts.append(bench.host(repository_path=str(repository), datastore_path=str(tmp_path / f"masters-{number}")))
    columns = ("repository_path", "datastore_path", "vm_path")
    paths = [{column: getattr(host.profile, column) for column in columns} for host in hosts]
    lab = a_lab(conn, module="libvirt", address=hosts[0].address, profile=paths[0])
    conn.execute(
        "WITH p AS (INSERT INTO vm_profile (name, repository_path, datastore_path, vm_path)"
        " VALUES ('other', %(repository_path)s, %(datastore_path)s, %(vm_path)s) RETURNING id)"
        " INSERT INTO vm_host (name, address, vm_profile_id, module)"
        " SELECT 'host-2', %(address)s, id, 'libvirt' FROM p",
        {**paths[1], "address": hosts[1].address},
    )
    return TwoRepositories(bench=bench, lab=lab, dsn=dsn, hosts=hosts)


def own_revision(two: TwoRepositories, number: int, name: str, folder: Path) -> str:
    """The content of a revision that only this repository has, as a master on the *other* repository's host."""
    bench = LibvirtBench(lab=two.bench.lab)
    spare = spare_image(bench, folder, name)
    lab_repository = open_repository(bench.lab.repository_path)
    lab_repository.copy_to(two.repository(number), spare, patience=Patience(60))
    delete(lab_repository, name, needed={}, patience=Patience(10))
    host = two.hosts[1 - number]
    two.repository(number).fetch(spare, Path(host.profile.datastore_path), patience=Patience(60))
    return spare.system_disk.blob.sha256


def test_gc_of_several_repositories_keeps_what_any_of_them_or_a_machine_needs(
    two: TwoRepositories, tmp_path: Path
) -> None:
    """Masters lie on the host of the repository that does not name them, so that one alone would remove them."""
    bench = two.bench
    named = own_revision(two, 1, "small-v32", tmp_path)
    rested_on = own_revision(two, 1, "small-v33", tmp_path)
    unneeded = own_revision(two, 1, "small-v34", tmp_path)
    computer, firstboot = bench.firstboot(bench.computer(1, host=two.hosts[1]))
    module = bench.provisioner(computer, guests=EagerGuests())
    module.load(computer, bench.revision("small-v33", 33), firstboot)
    module.control_VM(computer, Power.OFF)
    for name in ("small-v33", "small-v34"):
        delete(two.repository(1), name, needed={}, patience=Patience(10))
    nobodys = [two.blob_of_nobody(number) for number in (0, 1)]

    expected = {
        *nobodys,
        *((two.hosts[1].profile.repository_path, f"blobs/sha256/{each[:2]}/{each}") for each in (rested_on, unneeded)),
        ("host-1", unneeded),
    }
    assert two.gc("--dry-run") == expected
    assert two.gc() == expected
    there = {path.name for path in Path(two.hosts[0].profile.datastore_path).iterdir()}
    assert {named, rested_on} <= there
    assert unneeded not in there
    assert Path(two.hosts[1].profile.datastore_path, rested_on).exists()
    assert two.repository(0).get("small-v1").size_bytes
    assert two.gc() == set()

    module.control_VM(computer, Power.REMOVE)
    assert two.gc() | two.gc() == {("host-1", rested_on), ("host-2", rested_on)}  # one file: that of the other is young


def test_a_repository_with_a_bad_descriptor_keeps_its_own_and_all_masters_and_no_other_waits_for_it(
    two: TwoRepositories, tmp_path: Path
) -> None:
    unneeded = own_revision(two, 1, "small-v35", tmp_path)
    delete(two.repository(1), "small-v35", needed={}, patience=Patience(10))
    good, bad = two.blob_of_nobody(0), two.blob_of_nobody(1)
    broken = Path(two.hosts[1].profile.repository_path, "revisions", "broken-v1.yaml")
    broken.write_text("name: [")
    assert two.gc(status=1) == {good}
    assert f"nothing is removed from {two.hosts[1].profile.repository_path}" in two.said
    assert "masters stay on host-1" in two.said
    assert Path(*bad).exists()
    assert Path(two.hosts[0].profile.datastore_path, unneeded).exists()
    broken.unlink()
    assert {bad, ("host-1", unneeded)} <= two.gc()


def test_one_repository_that_is_named_is_all_that_is_looked_at(two: TwoRepositories) -> None:
    nobodys = [two.blob_of_nobody(number) for number in (0, 1)]
    assert two.gc("--repository", two.hosts[1].profile.repository_path) == {nobodys[1]}
    assert Path(*nobodys[0]).exists()


def leftover(two: TwoRepositories, kind: str) -> Path:
    """What a killed fetcher left of an image's system disk in host-1's datastore."""
    blob = two.repository(0).get("small-v1").system_disk.blob
    file = Path(two.hosts[0].profile.datastore_path, f"{partial_path(blob)}{kind}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(MB))
    return file


@pytest.mark.parametrize("kind", ["", ".shared"])
def test_what_a_killed_fetcher_left_goes_once_it_is_old_and_nobody_is_at_it(two: TwoRepositories, kind: str) -> None:
    """The content is still wanted: a revision names it."""
    file = leftover(two, kind)
    sha256 = file.name.partition(".")[0]
    ran = vcl_here(("images", "gc", "--older-than", "1", "--json"), VCL_DSN=two.dsn)
    assert json.loads(ran.stdout) == []  # it is young
    lock = Path(two.hosts[0].profile.datastore_path, ".locks", f"{sha256}.lock")
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as who brings a content does, though its line has stalled for long
        assert two.gc("--dry-run") == set()
        assert two.gc() == set()
        assert file.exists()
    assert two.gc("--dry-run") == {("host-1", sha256)}
    assert file.exists()
    assert two.gc() == {("host-1", sha256)}
    assert not file.exists()
