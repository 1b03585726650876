"""Masters on a real libvirt's host: fetched once, verified, whole or not there; and what a full disk leads to."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fix_libvirt import LibvirtBench, Remembered, libvirt_module

from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.conformance.ports import EagerGuests
from vcl_provision.images.repository import blob_of, delete, open_repository
from vcl_provision.images.repository.layout import descriptor_path
from vcl_provision.images.repository.loose import read_loose
from vcl_provision.model.faults import Cancelled, Refused
from vcl_provision.model.lab import Computer, VmHost
from vcl_provision.model.states import Power


@pytest.fixture
def empty_datastore(libvirt_bench: LibvirtBench, tmp_path: Path) -> dict[str, str]:
    return {"datastore_path": str(tmp_path / "masters")}


def masters(host: VmHost) -> dict[str, Path]:
    """What lies in the datastore, by name; without what a transfer leaves for the next one."""
    return {path.name: path for path in Path(host.profile.datastore_path).iterdir() if path.is_file()}


def test_many_ask_for_an_image_and_one_fetches_it(libvirt_bench: LibvirtBench, empty_datastore: dict[str, str]) -> None:
    """Each sees the same files as soon as it has its answer: nobody has put others in their place."""
    bench, host = libvirt_bench, libvirt_bench.host(**empty_datastore)
    modules = [bench.provisioner(bench.computer(n)) for n in range(4)]
    assert not modules[0].does_image_exist(bench.revision(), host)

    def fetched(module: Any) -> frozenset[tuple[str, int]]:
        module.retrieve_image(bench.revision(), host)
        return frozenset((name, path.stat().st_ino) for name, path in masters(host).items())

    with ThreadPoolExecutor(4) as threads:
        (there,) = set(threads.map(fetched, modules))
    assert modules[0].does_image_exist(bench.revision(), host)
    repository = open_repository(bench.lab.repository_path)
    assert {name for name, _ in there} == {blob.sha256 for blob in repository.get("small-v1").blobs}


def test_while_one_host_fetches_another_one_does_too(
    libvirt_bench: LibvirtBench, empty_datastore: dict[str, str]
) -> None:
    host = libvirt_bench.host(**empty_datastore)
    module = libvirt_bench.provisioner(libvirt_bench.computer(1))
    with libvirt_bench.locks.hold(f"master {host.name} small-v1", patience=Patience(5)):
        module.retrieve_image(libvirt_bench.revision(), replace(host, name="another"))
    assert module.does_image_exist(libvirt_bench.revision(), host)


def test_images_that_share_a_content_share_its_master(
    libvirt_bench: LibvirtBench, image_copy: str, empty_datastore: dict[str, str]
) -> None:
    host = libvirt_bench.host(**empty_datastore)
    module = libvirt_bench.provisioner(libvirt_bench.computer(1))
    for name in ("small-v1", image_copy):
        module.retrieve_image(libvirt_bench.revision(name), host)
    shared = {blob.sha256 for blob in open_repository(host.profile.repository_path).get("small-v1").blobs}
    assert len(shared) == 3
    assert len(masters(host)) == 4  # one of its own


def damage(file: Path) -> None:
    """Another content of the same size, in a file of its own."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)


@pytest.fixture
def image_copy(libvirt_bench: LibvirtBench, small_image: Path, tmp_path: Path) -> Iterator[str]:
    """An image in the repository whose first ram disk is its own, so that a test may spoil that."""
    repository = open_repository(libvirt_bench.lab.repository_path)
    there, initrd = read_loose(small_image), tmp_path / "initrd"
    assert there.initrd
    assert there.descriptor.boot
    initrd.write_bytes(there.initrd.read_bytes() + bytes(512))
    blob = blob_of(initrd)
    boot = replace(there.descriptor.boot, initrd=blob)
    spoiled = replace(there.descriptor, name="spoiled-v1", image="spoiled", boot=boot)
    repository.add(spoiled, {**there.files, blob.sha256: initrd}, patience=Patience(60))
    yield spoiled.name
    delete(repository, spoiled.name, needed={}, patience=Patience(60))


def initrd_of(bench: LibvirtBench, name: str) -> Path:
    """Its file in the repository."""
    repository = open_repository(bench.lab.repository_path)
    boot = repository.get(name).boot
    assert boot
    assert boot.initrd
    path = repository.path_of(boot.initrd)
    assert path
    return path


def test_a_damaged_image_is_not_let_onto_a_host(
    libvirt_bench: LibvirtBench, empty_datastore: dict[str, str], image_copy: str
) -> None:
    initrd = initrd_of(libvirt_bench, image_copy)
    damage(initrd)
    host = libvirt_bench.host(**empty_datastore)
    module = libvirt_bench.provisioner(libvirt_bench.computer(1))
    with pytest.raises(Refused, match=f"{initrd} is damaged"):
        module.retrieve_image(libvirt_bench.revision(image_copy), host)
    assert not module.does_image_exist(libvirt_bench.revision(image_copy), host)
    assert initrd.name not in masters(host)


def test_a_master_that_is_no_longer_whole_is_fetched_again(
    libvirt_bench: LibvirtBench, empty_datastore: dict[str, str]
) -> None:
    bench, host = libvirt_bench, libvirt_bench.host(**empty_datastore)
    module = bench.provisioner(bench.computer(1))
    module.retrieve_image(bench.revision(), host)
    kernel = min(masters(host).values(), key=lambda path: path.stat().st_size)
    kernel.unlink()
    kernel.write_bytes(b"half")
    assert not module.does_image_exist(bench.revision(), host)
    module.retrieve_image(bench.revision(), host)
    assert module.does_image_exist(bench.revision(), host)


def test_a_master_on_another_machine_goes_on_where_it_was_cut_off(libvirt_bench: LibvirtBench, tmp_path: Path) -> None:
    """Its last byte is written last, and only after all of it was verified."""
    bench, part = libvirt_bench, libvirt_module("masters")
    repository = open_repository(bench.lab.repository_path)
    blob = repository.get("small-v1").system_disk.blob
    cut_off = Patience(60)

    def cancel(done: int, total: int) -> None:
        if done > total // 2:
            cut_off.cancel()

    with bench.connection() as connection:
        pool = libvirt_module("volumes").pool_at(connection, str(tmp_path / "masters"))
        with pytest.raises(Cancelled):
            repository.send(blob, part.VolumeSink(connection, pool, blob), patience=cut_off, progress=cancel)
        assert blob.bytes // 2 <= part.length_of(pool, blob) < blob.bytes
        heard: list[int] = []
        sink = part.VolumeSink(connection, pool, blob)
        repository.send(blob, sink, patience=Patience(60), progress=lambda done, _: heard.append(done))
        assert heard[1] >= blob.bytes // 2
        assert part.length_of(pool, blob) == blob.bytes
        assert blob_of(tmp_path / "masters" / blob.sha256) == blob
        (tmp_path / "masters" / blob.sha256).write_bytes(b"not of it")
        repository.send(blob, sink, patience=Patience(60))
        assert blob_of(tmp_path / "masters" / blob.sha256) == blob


def test_an_image_that_no_repository_has_is_named(libvirt_bench: LibvirtBench) -> None:
    module = libvirt_bench.provisioner(libvirt_bench.computer(1))
    missing = libvirt_bench.revision("nothing-v1")
    assert not module.does_image_exist(missing, libvirt_bench.host())
    for ask in (module.retrieve_image, module.get_image_size):
        with pytest.raises(Refused, match="holds no image nothing-v1"):
            ask(missing, libvirt_bench.host())


@dataclass(frozen=True)
class TinyDisk:
    """A file system of 1 MiB: where the daemon sees it, and where we do."""

    inside: Path
    outside: Path


@pytest.fixture
def tiny_disk(libvirt_bench: LibvirtBench, tmp_path: Path) -> TinyDisk:
    """Mounted in the daemon's mount namespace only, so that it is gone with the daemon."""
    place = tmp_path / "tiny"
    place.mkdir()
    daemon = libvirt_bench.daemon()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    subprocess.run(["nsenter", f"--target={daemon}", "--mount", *mount], check=True)
    return TinyDisk(place, Path(f"/proc/{daemon}/root{place}"))


def test_a_disk_too_small_for_the_image_is_named_with_what_it_lacks(
    libvirt_bench: LibvirtBench, tiny_disk: TinyDisk
) -> None:
    host = libvirt_bench.host(datastore_path=str(tiny_disk.outside))
    module = libvirt_bench.provisioner(libvirt_bench.computer(1))
    with pytest.raises(Refused, match=rf"{tiny_disk.outside} is full: \d+ bytes are free, \d{{9}} are needed"):
        module.retrieve_image(libvirt_bench.revision(), host)
    assert [path for path in tiny_disk.outside.rglob("*") if path.is_file()] == []


@pytest.fixture
def powerless(libvirt_bench: LibvirtBench) -> Computer:
    """A machine that was loaded and turned off before it had booted: all that a capture needs."""
    computer, firstboot = libvirt_bench.firstboot(libvirt_bench.computer(1))
    module = libvirt_bench.provisioner(computer, guests=EagerGuests())
    module.load(computer, libvirt_bench.revision(), firstboot)
    module.control_VM(computer, Power.OFF)
    return computer


KILLED = """
import os, pickle, signal, sys
sys.path.insert(0, sys.argv[1])
import fix_libvirt
from vcl_provision.channels.local import LocalChannel

class Killed(LocalChannel):
    def run(self, argv, **said):
        super().run(argv, **said)
        os.kill(os.getpid(), signal.SIGKILL)

lab, key, computer, revision = pickle.load(sys.stdin.buffer)
module = fix_libvirt.LibvirtBench(lab=lab, key=key).provisioner(computer, local=Killed())
module.capture(computer, revision)
"""


def test_a_capture_that_was_killed_leaves_no_image_and_the_next_one_makes_it(
    libvirt_bench: LibvirtBench, powerless: Computer
) -> None:
    """The capture dies when the disk is written and the image has no name yet."""
    bench, revision = libvirt_bench, libvirt_bench.revision("small-v4", 4)
    repository = open_repository(bench.lab.repository_path)
    before = bench.path(powerless, "disk.qcow2").read_bytes()
    told = pickle.dumps((bench.lab, bench.key, powerless, revision))
    argv = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1])]
    ran = subprocess.run(argv, input=told, capture_output=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
    scratch = Path(bench.lab.repository_path, "partial", "capture-small-v4")
    assert (scratch / "disk.qcow2").exists()
    assert not repository.has("small-v4")

    module = bench.provisioner(powerless)
    module.undo("discard", {"path": str(scratch)})
    assert not scratch.exists()
    module.capture(powerless, revision)
    made = repository.get("small-v4")
    assert (made.parent, made.origin, made.boot) == ("small-v1", powerless.name, repository.get("small-v1").boot)
    assert made.captured_at
    module.retrieve_image(revision, bench.host())
    assert module.does_image_exist(revision, bench.host())
    assert bench.path(powerless, "disk.qcow2").read_bytes() == before


def test_a_capture_into_a_full_repository_leaves_no_image(
    libvirt_bench: LibvirtBench, powerless: Computer, tiny_disk: TinyDisk
) -> None:
    full, name = tiny_disk.outside, descriptor_path("small-v1")
    (full / name).parent.mkdir()
    (full / name).write_bytes(Path(libvirt_bench.lab.repository_path, name).read_bytes())
    host = libvirt_bench.host(repository_path=str(full))
    module = libvirt_bench.provisioner(powerless)
    with pytest.raises(Refused, match=rf"{full}/partial is full: \d+ bytes are free, \d{{9}} are needed"):
        module.capture(replace(powerless, host=host), libvirt_bench.revision("small-v5", 5))
    assert [path.name for path in full.rglob("*") if path.is_file()] == ["small-v1.yaml"]


def test_a_disk_too_full_for_a_machine_is_named_and_the_undo_leaves_nothing(
    libvirt_bench: LibvirtBench, tiny_disk: TinyDisk
) -> None:
    (tiny_disk.outside / "ballast").write_bytes(bytes(1 << 20))
    host = libvirt_bench.host(vm_path=str(tiny_disk.inside))
    computer, firstboot = libvirt_bench.firstboot(libvirt_bench.computer(1, host=host))
    remembered = Remembered()
    module = libvirt_bench.provisioner(computer, remembered)
    with pytest.raises(Refused, match=rf"{tiny_disk.inside} is full: \d+ bytes are free, \d+ are needed"):
        module.load(computer, libvirt_bench.revision(), firstboot)
    for action, arguments in remembered.effects:
        module.undo(action, arguments)
    assert [path.name for path in tiny_disk.outside.iterdir()] == ["ballast"]
    assert libvirt_bench.domains("vm2") == []
