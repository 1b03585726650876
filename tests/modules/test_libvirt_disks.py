"""Machines of several disks on a real libvirt: each with its role, from the load to a captured image."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from fix_libvirt import LibvirtBench

from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import (
    Disk,
    DiskFormat,
    DiskRole,
    ImageDescriptor,
    Repository,
    blob_of,
    delete,
    open_repository,
)
from vcl_provision.images.repository.loose import read_loose
from vcl_provision.model.faults import CommandFailed
from vcl_provision.model.lab import Computer, Revision
from vcl_provision.model.states import Power

SIZE = 8 << 20


def file_system(folder: Path, name: str, text: str) -> Path:
    """An ext4 of a label, with one file in it."""
    tree, disk = folder / f"{name}-tree", folder / f"{name}.raw"
    tree.mkdir(exist_ok=True)
    (tree / "said").write_text(text)
    with disk.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", name, "-d", str(tree), str(disk)], check=True)
    return disk


def disk_of(file: Path, name: str, role: DiskRole) -> Disk:
    return Disk(name=name, role=role, format=DiskFormat.RAW, blob=blob_of(file), virtual_bytes=SIZE)


@pytest.fixture
def repository(libvirt_bench: LibvirtBench) -> Repository:
    return open_repository(libvirt_bench.lab.repository_path)


@pytest.fixture
def template(
    libvirt_bench: LibvirtBench, repository: Repository, small_image: Path, tmp_path: Path
) -> Iterator[ImageDescriptor]:
    """System, application, data: the template of OVM-31, its parts files of their own."""
    there = read_loose(small_image)
    application = file_system(tmp_path, "application", "version 1")
    data = file_system(tmp_path, "data", "empty")
    disks = [
        *there.descriptor.disks,
        disk_of(application, "application", DiskRole.APPLICATION),
        disk_of(data, "data", DiskRole.DATA),
    ]
    image = replace(there.descriptor, name="parts-v1", image="parts", disks=disks)
    files = {**there.files, **{blob_of(file).sha256: file for file in (application, data)}}
    repository.add(image, files, patience=Patience(60))
    yield image
    for name in ("parts-v3", "parts-v2", "parts-v1"):
        if repository.has(name):
            delete(repository, name, needed={}, patience=Patience(60))


def revision(bench: LibvirtBench, number: int) -> Revision:
    return replace(bench.revision(f"parts-v{number}", 10 + number), image="parts", revision=number)


def test_a_machine_of_three_disks_is_loaded_changed_captured_and_given_a_new_application(
    libvirt_bench: LibvirtBench, repository: Repository, template: ImageDescriptor, tmp_path: Path
) -> None:
    bench = libvirt_bench
    masters = Path(bench.lab.datastore_path)
    computer = bench.load(bench.computer(1), revision(bench, 1))
    letters = {disk.name: f"/dev/vd{letter}" for disk, letter in zip(template.disks, "acd", strict=True)}
    assert read(bench, computer, letters["application"]) == "version 1"
    assert read(bench, computer, letters["data"]) == "empty"
    with pytest.raises(CommandFailed):
        write(bench, computer, letters["application"], "mine")
    write(bench, computer, letters["data"], "filled")
    for blob in template.blobs:  # what the machine wrote is on files of its own
        assert sha256((masters / blob.sha256).read_bytes()).hexdigest() == blob.sha256
    assert bench.files(computer) == ["console.log", "disk.qcow2", "disk3.qcow2", "seed.iso"]

    module = bench.provisioner(computer)
    module.snapshot(computer, "with-memory")
    module.control_VM(computer, Power.OFF)
    module.capture(computer, revision(bench, 2))
    captured = repository.get("parts-v2")
    system, application, data = captured.disks
    assert application == template.disks[1]
    assert system.blob != template.disks[0].blob
    assert data.blob != template.disks[2].blob
    for disk in (system, data):  # an image is a machine that is off: no memory, nothing beneath
        path = repository.path_of(disk.blob)
        assert subprocess.run(["qemu-img", "snapshot", "-l", str(path)], capture_output=True, check=True).stdout == b""
        assert b"backing" not in subprocess.run(["qemu-img", "info", str(path)], capture_output=True, check=True).stdout

    new = file_system(tmp_path, "application", "version 2")
    third = captured.with_application_disk(
        disk_of(new, "application", DiskRole.APPLICATION), name="parts-v3", revision=3
    )
    repository.add(third, {blob_of(new).sha256: new}, patience=Patience(60))
    computer = bench.load(computer, revision(bench, 3))
    assert read(bench, computer, letters["application"]) == "version 2"
    assert read(bench, computer, letters["data"]) == "filled"
    assert third.system_disk == captured.system_disk
    bench.provisioner(computer).control_VM(computer, Power.REMOVE)
    assert bench.files(computer) == []


def read(bench: LibvirtBench, computer: Computer, device: str) -> str:
    return bench.run(computer, "sh", "-c", f"mount -o ro {device} /mnt && cat /mnt/said; umount /mnt")


def write(bench: LibvirtBench, computer: Computer, device: str, text: str) -> None:
    bench.run(computer, "sh", "-c", f"mount {device} /mnt && echo -n {text} > /mnt/said && umount /mnt")
