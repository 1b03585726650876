"""Images on their way to a VM host: beside a plain copy, to two hosts at once, and what is linked instead of copied."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from a_port import free_port
from fix_libvirt import LibvirtBench, Remembered, a_libvirt_lab, libvirt_module
from fix_repository import sftp_address
from fix_sshd import Sshd

from benchmarks.table import Row
from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import (
    Disk,
    DiskFormat,
    DiskRole,
    ImageDescriptor,
    OperatingSystem,
    Repository,
    blob_of,
    open_repository,
)
from vcl_provision.images.repository.folder import FolderPlace
from vcl_provision.images.repository.sums import ALGORITHMS
from vcl_provision.model.steps import Step

BYTES = 512 << 20
ROUNDS = 5
GIB = 1 << 30
ELSEWHERE = Path("/dev/shm")  # a file system that is not the repository's: nothing can be shared
BENCH = OperatingSystem(name="bench", family="bench", version="1", architecture="amd64")


class Enough(Exception):
    """The load has come as far as is measured."""


def run() -> list[Row]:
    """Needs root, libvirt, and a gibibyte of memory. Some two minutes."""
    with tempfile.TemporaryDirectory(prefix="vcl-bench-", dir="/var/tmp") as name:
        return [*_copies(Path(name)), *_from_another_node(Path(name)), *_links(Path(name))]


def _copies(folder: Path) -> list[Row]:
    """In turns, so that what others do on the machine meanwhile falls on all."""
    repository = open_repository(folder / "images")
    image = _an_image(repository, folder, "copied", os.urandom(1 << 20) * (BYTES >> 20))
    alone, two, disk = _Pair(), _Pair(), _Pair()
    linked = list[float]()
    for _ in range(ROUNDS):
        alone.add(_plain(repository, image, ELSEWHERE), _fetched(repository, image, ELSEWHERE, hosts=1))
        two.add(_plain(repository, image, ELSEWHERE), _fetched(repository, image, ELSEWHERE, hosts=2))
        disk.add(_plain(repository, image, folder), _sent(repository, image, folder))
        linked.append(_fetched(repository, image, folder, hosts=1))
    return [
        Row("512 MiB written to the same disk and verified, over a plain copy, both synced", disk.ratio, "1.1"),
        Row("  plain copy, synced, s", f"{median(disk.plain):.2f}"),
        Row("  written, verified, synced, s", f"{median(disk.ours):.2f}"),
        Row("  a fetch as it is there: the file shared, verified, s", f"{median(linked):.2f}"),
        Row("512 MiB fetched to another file system, in memory, over a plain copy", alone.ratio, "1.1"),
        Row("  plain copy, s", f"{median(alone.plain):.2f}"),
        Row("  fetched and verified, s", f"{median(alone.ours):.2f}"),
        *(
            Row(f"  {name.upper()} of it, s", f"{median(_summed(image, name) for _ in range(ROUNDS)):.2f}")
            for name in ALGORITHMS
        ),
        Row("  two hosts at once, both done after, s", f"{median(two.ours):.2f}"),
    ]


@dataclass
class _Pair:
    """Seconds of a plain copy and of ours, one after the other in each round."""

    plain: list[float] = field(default_factory=list[float])
    ours: list[float] = field(default_factory=list[float])

    def add(self, plain: float, ours: float) -> None:
        self.plain.append(plain)
        self.ours.append(ours)

    @property
    def ratio(self) -> str:
        return f"{median(ours / plain for ours, plain in zip(self.ours, self.plain, strict=True)):.2f}"


def _from_another_node(folder: Path) -> list[Row]:
    """Over ssh, both ends on this machine; OpenSSH's client verifies nothing and is synced afterwards."""
    there = folder / "sshd"
    there.mkdir()
    sshd = Sshd(folder=there, port=free_port())
    repository = open_repository(folder / "another")
    image = _an_image(repository, folder, "sent", os.urandom(1 << 20) * (BYTES >> 20))
    sshd.start()
    pair = _Pair()
    try:
        far = open_repository(sftp_address(sshd, folder / "another"))
        for _ in range(ROUNDS):
            pair.add(_by_openssh(sshd, repository, image, folder), _fetched(far, image, folder, hosts=1))
        far.close()
    finally:
        sshd.stop()
    return [
        Row("512 MiB fetched from another node and verified, over OpenSSH's sftp, both synced", pair.ratio, "1.1"),
        Row("  OpenSSH's sftp, s", f"{median(pair.plain):.2f}"),
        Row("  fetched and verified, s", f"{median(pair.ours):.2f}"),
    ]


def _by_openssh(sshd: Sshd, repository: Repository, image: ImageDescriptor, where: Path) -> float:
    options = ["-q", "-i", str(sshd.folder / "client_key"), "-o", f"UserKnownHostsFile={sshd.folder / 'known_hosts'}"]
    with tempfile.TemporaryDirectory(dir=where) as name:
        source, target = f"127.0.0.1:{repository.path_of(image.system_disk.blob)}", Path(name, "copy")
        began = time.monotonic()
        argv = ["sftp", *options, "-P", str(sshd.port), source, str(target)]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        with target.open("rb") as copy:
            os.fsync(copy.fileno())
        return time.monotonic() - began


def _summed(image: ImageDescriptor, algorithm: str) -> float:
    """The least that a verification takes on one processor."""
    chunk, own = bytes(1 << 20), ALGORITHMS[algorithm]()
    began = time.monotonic()
    for _ in range(image.system_disk.blob.bytes >> 20):
        own.update(chunk)
    return time.monotonic() - began


def _sent(repository: Repository, image: ImageDescriptor, where: Path) -> float:
    """What a fetch does where nothing can be shared; on the repository's own disk it would not copy."""
    blob = image.system_disk.blob
    with tempfile.TemporaryDirectory(dir=where) as name:
        began = time.monotonic()
        repository.send(blob, FolderPlace(Path(name)).sink(blob.sha256, blob), patience=Patience(300))
        return time.monotonic() - began


def _plain(repository: Repository, image: ImageDescriptor, where: Path) -> float:
    source = repository.path_of(image.system_disk.blob)
    assert source
    with tempfile.TemporaryDirectory(dir=where) as name, source.open("rb") as file:
        began = time.monotonic()
        with Path(name, "copy").open("wb") as copy:
            while chunk := file.read(1 << 20):
                copy.write(chunk)
            os.fsync(copy.fileno())
        return time.monotonic() - began


def _fetched(repository: Repository, image: ImageDescriptor, where: Path, *, hosts: int) -> float:
    with contextlib.ExitStack() as stack:
        places = [Path(stack.enter_context(tempfile.TemporaryDirectory(dir=where))) for _ in range(hosts)]
        fetches = [
            threading.Thread(target=repository.fetch, args=[image, place], kwargs={"patience": Patience(300)})
            for place in places
        ]
        began = time.monotonic()
        for fetch in fetches:
            fetch.start()
        for fetch in fetches:
            fetch.join()
        return time.monotonic() - began


def _links(folder: Path) -> list[Row]:
    """Machines are made and switched on, and their boot is not waited for: it is the same, and there is no system."""
    with a_libvirt_lab(folder / "lab") as lab:
        bench = LibvirtBench(lab=lab)
        repository = open_repository(lab.repository_path)
        small, large = (_held(bench, repository, folder, size) for size in (1, 20))
        pair = _Pair()
        for _ in range(ROUNDS):
            pair.add(_made(bench, small), _made(bench, large))
        sent = _to_a_vm_host(bench, folder)
        bench.kept.close()
    return [
        *sent,
        Row("a machine of a 20 GiB image is made, over one of 1 GiB", pair.ratio, "1"),
        Row("  of 1 GiB, s", f"{median(pair.plain):.3f}"),
        Row("  of 20 GiB, s", f"{median(pair.ours):.3f}"),
    ]


def _to_a_vm_host(bench: LibvirtBench, folder: Path) -> list[Row]:
    """Through libvirt, as to a host whose files are not here; virsh verifies nothing."""
    repository = open_repository(folder / "streamed")
    image = _an_image(repository, folder, "streamed", os.urandom(1 << 20) * (BYTES >> 20))
    pair = _Pair()
    with bench.connection() as connection:
        for number in range(ROUNDS):
            pool = libvirt_module("volumes").pool_at(connection, str(folder / f"datastore{number}"))
            pair.add(_by_virsh(bench, pool.name(), repository, image), _streamed(connection, pool, repository, image))
    return [
        Row("512 MiB sent to a VM host by libvirt and verified, over virsh vol-upload", pair.ratio, "1.1"),
        Row("  virsh vol-upload, s", f"{median(pair.plain):.2f}"),
        Row("  sent and verified, s", f"{median(pair.ours):.2f}"),
    ]


def _by_virsh(bench: LibvirtBench, pool: str, repository: Repository, image: ImageDescriptor) -> float:
    virsh = ["virsh", "-q", "-c", bench.lab.host_address]
    size, source = str(image.system_disk.blob.bytes), repository.path_of(image.system_disk.blob)
    making = [*virsh, "vol-create-as", pool, "plain", size, "--format", "raw", "--allocation", "0"]
    subprocess.run(making, check=True)
    began = time.monotonic()
    subprocess.run([*virsh, "vol-upload", "--pool", pool, "plain", str(source)], check=True)
    took = time.monotonic() - began
    subprocess.run([*virsh, "vol-delete", "--pool", pool, "plain"], check=True, stdout=subprocess.DEVNULL)
    return took


def _streamed(connection: object, pool: object, repository: Repository, image: ImageDescriptor) -> float:
    blob = image.system_disk.blob
    began = time.monotonic()
    sink = libvirt_module("masters").VolumeSink(connection, pool, blob)
    repository.send(blob, sink, patience=Patience(300))
    return time.monotonic() - began


def _held(bench: LibvirtBench, repository: Repository, folder: Path, gibibytes: int) -> str:
    """The name of an image of so many GiB that is on the host."""
    name = f"linked{gibibytes}"
    image = _an_image(repository, folder, name, size=gibibytes * GIB)
    bench.provisioner(bench.computer(1)).retrieve_image(bench.revision(image.name), bench.host())
    return image.name


def _made(bench: LibvirtBench, revision: str) -> float:
    """Seconds from the beginning of a load to its machine being switched on."""

    def stop(step: Step) -> None:
        if step is Step.BOOTING:
            raise Enough

    computer, firstboot = bench.firstboot(bench.computer(1))
    began = time.monotonic()
    with contextlib.suppress(Enough):
        bench.provisioner(computer, Remembered(at=stop)).load(computer, bench.revision(revision), firstboot)
    took = time.monotonic() - began
    bench.clear()
    return took


def _an_image(
    repository: Repository, folder: Path, name: str, content: bytes = b"", *, size: int = 0
) -> ImageDescriptor:
    """Added as revision 1: of so many bytes that are not stored, or with a content."""
    file = folder / f"{name}.raw"
    with file.open("wb") as disk:
        disk.write(content)
        disk.truncate(size or len(content))
    blob = blob_of(file)
    system = Disk(name="system", role=DiskRole.SYSTEM, format=DiskFormat.RAW, blob=blob, virtual_bytes=blob.bytes)
    image = ImageDescriptor(name=f"{name}-v1", image=name, revision=1, os=BENCH, disks=[system], min_memory_mb=128)
    repository.take_in(image, {blob.sha256: file}, patience=Patience(300))
    file.unlink(missing_ok=True)
    return image
