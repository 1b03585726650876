"""Images on their way to a VM host: beside a plain copy, to two hosts at once, and what is linked instead of copied."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from fix_libvirt import LibvirtBench, Remembered, a_libvirt_lab

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
        return [*_copies(Path(name)), *_links(Path(name))]


def _copies(folder: Path) -> list[Row]:
    """In turns, so that what others do on the machine meanwhile falls on all."""
    repository = open_repository(folder / "images")
    image = _an_image(repository, folder, "copied", os.urandom(1 << 20) * (BYTES >> 20))
    plain, ours, two = list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        plain.append(_plain(repository, image))
        ours.append(_fetched(repository, image, hosts=1))
        two.append(_fetched(repository, image, hosts=2))
    ratio = median(one / other for one, other in zip(ours, plain, strict=True))
    return [
        Row("a host that lacks an image fetches 512 MiB of it, over a plain copy", f"{ratio:.2f}", "1.1"),
        Row("  plain copy, written to the disk, s", f"{median(plain):.2f}"),
        Row("  fetched and verified, s", f"{median(ours):.2f}"),
        Row("  two hosts at once, both done after, s", f"{median(two):.2f}"),
    ]


def _plain(repository: Repository, image: ImageDescriptor) -> float:
    source = repository.path_of(image.system_disk.blob)
    assert source
    with tempfile.TemporaryDirectory(dir=ELSEWHERE) as name, source.open("rb") as file:
        began = time.monotonic()
        with Path(name, "copy").open("wb") as copy:
            while chunk := file.read(1 << 20):
                copy.write(chunk)
            os.fsync(copy.fileno())
        return time.monotonic() - began


def _fetched(repository: Repository, image: ImageDescriptor, *, hosts: int) -> float:
    with contextlib.ExitStack() as stack:
        places = [Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ELSEWHERE))) for _ in range(hosts)]
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
        small, large = (_linked(bench, repository, folder, size) for size in (1, 20))
        bench.kept.close()
    return [
        Row("a machine of a 20 GiB image is made, over one of 1 GiB", f"{large / small:.2f}", "1"),
        Row("  of 1 GiB, s", f"{small:.3f}"),
        Row("  of 20 GiB, s", f"{large:.3f}"),
    ]


def _linked(bench: LibvirtBench, repository: Repository, folder: Path, gibibytes: int) -> float:
    name = f"linked{gibibytes}"
    image = _an_image(repository, folder, name, size=gibibytes * GIB)
    bench.provisioner(bench.computer(1)).retrieve_image(bench.revision(image.name), bench.host())
    return median(_made(bench, image.name) for _ in range(ROUNDS))


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
