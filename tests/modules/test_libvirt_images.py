"""Masters on a real libvirt's host: fetched once, verified, whole or not there; and what a full disk leads to."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fix_libvirt import LibvirtBench, Remembered, put_in_repository

from vcl_provision.drivers.conformance.ports import EagerGuests
from vcl_provision.model.faults import Refused
from vcl_provision.model.lab import Computer
from vcl_provision.model.states import Power


@pytest.fixture
def empty_datastore(libvirt_bench: LibvirtBench, tmp_path: Path) -> dict[str, str]:
    return {"datastore_path": str(tmp_path / "masters")}


def test_many_ask_for_an_image_and_one_fetches_it(libvirt_bench: LibvirtBench, empty_datastore: dict[str, str]) -> None:
    """Each sees the same folder as soon as it has its answer: nobody has put another one in its place."""
    bench, host = libvirt_bench, libvirt_bench.host(**empty_datastore)
    modules = [bench.provisioner(bench.computer(n)) for n in range(4)]
    assert not modules[0].does_image_exist(bench.revision(), host)

    def fetched(module: Any) -> tuple[Path, int]:
        module.retrieve_image(bench.revision(), host)
        (master,) = Path(host.profile.datastore_path).iterdir()
        return master, master.stat().st_ino

    with ThreadPoolExecutor(4) as threads:
        ((master, _),) = set(threads.map(fetched, modules))
    assert modules[0].does_image_exist(bench.revision(), host)
    assert sorted(file.name for file in master.iterdir()) == ["disk.qcow2", "image.json", "initrd.img", "vmlinuz"]


def damage(file: Path) -> None:
    """Another content of the same size, in a file of its own."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)


@pytest.fixture
def image_copy(libvirt_bench: LibvirtBench) -> Iterator[Path]:
    """An image in the repository that a test may spoil."""
    repository = Path(libvirt_bench.lab.repository_path)
    put_in_repository(repository / "small-v1", repository, "spoiled-v1")
    yield repository / "spoiled-v1"
    shutil.rmtree(repository / "spoiled-v1")


def test_a_damaged_image_is_not_let_onto_a_host(
    libvirt_bench: LibvirtBench, empty_datastore: dict[str, str], image_copy: Path
) -> None:
    damage(image_copy / "vmlinuz")
    host = libvirt_bench.host(**empty_datastore)
    module = libvirt_bench.provisioner(libvirt_bench.computer(1))
    with pytest.raises(Refused, match="vmlinuz is damaged"):
        module.retrieve_image(libvirt_bench.revision("spoiled-v1"), host)
    assert list(Path(host.profile.datastore_path).iterdir()) == []


def test_a_master_that_is_no_longer_whole_is_fetched_again(
    libvirt_bench: LibvirtBench, empty_datastore: dict[str, str]
) -> None:
    bench, host = libvirt_bench, libvirt_bench.host(**empty_datastore)
    module = bench.provisioner(bench.computer(1))
    module.retrieve_image(bench.revision(), host)
    (master,) = Path(host.profile.datastore_path).iterdir()
    kernel = master / "vmlinuz"
    kernel.unlink()
    kernel.write_bytes(b"half")
    assert not module.does_image_exist(bench.revision(), host)
    module.retrieve_image(bench.revision(), host)
    assert module.does_image_exist(bench.revision(), host)


def test_an_image_that_no_repository_has_is_named(libvirt_bench: LibvirtBench) -> None:
    module = libvirt_bench.provisioner(libvirt_bench.computer(1))
    missing = libvirt_bench.revision("nothing-v1")
    assert not module.does_image_exist(missing, libvirt_bench.host())
    for ask in (module.retrieve_image, module.get_image_size):
        with pytest.raises(Refused, match="nothing-v1 is no image"):
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
    assert list(tiny_disk.outside.iterdir()) == []


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
    repository = Path(bench.lab.repository_path)
    before = bench.path(powerless, "disk.qcow2").read_bytes()
    told = pickle.dumps((bench.lab, bench.key, powerless, revision))
    argv = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1])]
    ran = subprocess.run(argv, input=told, capture_output=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
    assert (repository / ".small-v4.partial" / "disk.qcow2").exists()
    assert not (repository / "small-v4").exists()

    module = bench.provisioner(powerless)
    module.undo("discard", {"path": str(repository / ".small-v4.partial")})
    assert not (repository / ".small-v4.partial").exists()
    module.capture(powerless, revision)
    assert module.does_image_exist(revision, bench.host()) is False
    module.retrieve_image(revision, bench.host())
    assert bench.path(powerless, "disk.qcow2").read_bytes() == before


def test_a_capture_into_a_full_repository_leaves_no_image(
    libvirt_bench: LibvirtBench, powerless: Computer, tiny_disk: TinyDisk
) -> None:
    (tiny_disk.outside / "small-v1").symlink_to(Path(libvirt_bench.lab.repository_path, "small-v1"))
    host = libvirt_bench.host(repository_path=str(tiny_disk.outside))
    module = libvirt_bench.provisioner(powerless)
    with pytest.raises(Refused, match=rf"{tiny_disk.outside} is full: \d+ bytes are free, \d{{9}} are needed"):
        module.capture(replace(powerless, host=host), libvirt_bench.revision("small-v5", 5))
    assert [path.name for path in tiny_disk.outside.iterdir()] == ["small-v1"]


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
