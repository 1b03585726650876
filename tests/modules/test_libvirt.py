"""The libvirt module on a real libvirt: machines loaded, asked, snapshot, captured, cut off, taken back."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fix_libvirt import LAB, LibvirtBench, Remembered, Standing, libvirt_module

from vcl_provision.channels.keys import new_host_key
from vcl_provision.channels.patience import Patience
from vcl_provision.images.repository import (
    Disk,
    DiskFormat,
    DiskRole,
    ImageDescriptor,
    OperatingSystem,
    blob_of,
    delete,
    open_repository,
)
from vcl_provision.model.faults import HostUnreachable, Refused, WrongHostKey
from vcl_provision.model.lab import Computer, Revision
from vcl_provision.model.states import NodeStatus, Power
from vcl_provision.model.steps import Step

FOREIGN = "<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
ALL_FILES = ["console.log", "disk.qcow2", "seed.iso"]

# A machine that stands: loaded once.


def test_a_loaded_machine_is_the_one_that_was_asked_for(standing: Standing) -> None:
    assert standing.bench.run(standing.computer, "hostname").strip() == standing.computer.name


def test_a_loaded_machine_needs_its_post_load_steps_and_is_ready_after_them(standing: Standing) -> None:
    revision, computer = standing.bench.revision(), standing.computer
    assert standing.provisioner.node_status(computer, revision) is NodeStatus.POST_LOAD
    assert standing.provisioner.node_status(replace(computer, prepared=True), revision) is NodeStatus.READY


def test_whatever_does_not_fit_means_a_new_load(standing: Standing) -> None:
    bench = standing.bench
    computer = replace(standing.computer, prepared=True)

    def status(computer: Computer = computer, number: int = 1) -> NodeStatus:
        return standing.provisioner.node_status(computer, bench.revision(number=number))

    assert status(replace(computer, tainted=True)) is NodeStatus.RELOAD
    assert status(replace(computer, host_key=new_host_key().public)) is NodeStatus.RELOAD
    assert status(replace(computer, host_key="")) is NodeStatus.RELOAD
    assert status(number=2) is NodeStatus.RELOAD
    assert standing.provisioner.node_status(computer, bench.revision("no-such-v1")) is NodeStatus.RELOAD
    assert status(replace(computer, name="vm-none")) is NodeStatus.RELOAD


def test_a_suspended_machine_goes_on_where_it_was(standing: Standing) -> None:
    bench, computer = standing.bench, standing.computer
    booted = bench.run(computer, "cat", "/proc/sys/kernel/random/boot_id")
    for action in (Power.SUSPEND, Power.SUSPEND):
        standing.provisioner.control_VM(computer, action)
    assert standing.provisioner.node_status(computer, bench.revision()) is NodeStatus.RELOAD
    for action in (Power.RESUME, Power.RESUME, Power.ON):
        standing.provisioner.control_VM(computer, action)
    assert bench.run(computer, "cat", "/proc/sys/kernel/random/boot_id") == booted


def test_a_machine_goes_back_to_its_snapshot(standing: Standing) -> None:
    bench, computer, module = standing.bench, standing.computer, standing.provisioner
    module.snapshot(computer, "clean")
    bench.run(computer, "touch", "/root/later")
    module.revert(computer, "clean")
    assert bench.run(computer, "find", "/root", "-name", "later") == ""
    assert list(module.snapshots(computer)) == ["clean"]
    with pytest.raises(Refused, match="has a snapshot 'clean' already"):
        module.snapshot(computer, "clean")
    module.delete_snapshot(computer, "clean")
    module.delete_snapshot(computer, "clean")
    with pytest.raises(Refused, match="no snapshot 'clean'"):
        module.revert(computer, "clean")


def test_a_machine_is_measured_and_its_address_known(standing: Standing) -> None:
    reading = standing.provisioner.metrics(standing.computer)
    assert reading.cpu_seconds > 1
    assert reading.memory_bytes > 64 << 20
    assert list(standing.provisioner.addresses(standing.computer)) == [standing.computer.private_address]


def test_the_inventory_finds_what_nobody_reserved(standing: Standing) -> None:
    bench, module, host = standing.bench, standing.provisioner, standing.computer.host
    before = set(module.inventory(host))
    assert {(found.name, found.owner) for found in before} == {("vm1", f"vcl:{LAB}:vm1")}
    leaked = bench.path(replace(standing.computer, name="gone.example.org"), "disk.qcow2")
    leaked.touch()
    with bench.connection() as connection:
        domain = connection.defineXML(FOREIGN.format(name="leaked"))
        new = {(found.name, found.owner) for found in set(module.inventory(host)) - before}
        domain.undefine()
    leaked.unlink()
    assert new == {("leaked", ""), ("gone.example.org", f"vcl:{LAB}:gone.example.org")}


def test_a_daemon_that_dies_costs_its_connections_and_no_machine(standing: Standing) -> None:
    bench, computer = standing.bench, standing.computer
    booted = bench.run(computer, "cat", "/proc/sys/kernel/random/boot_id")
    os.kill(bench.daemon(), signal.SIGKILL)

    def measured() -> bool:
        try:
            return standing.provisioner.metrics(computer).cpu_seconds > 0
        except HostUnreachable:
            return False

    standing.provisioner.task.patience.until(measured, "the keeper to start another daemon")
    assert bench.run(computer, "cat", "/proc/sys/kernel/random/boot_id") == booted


def test_what_the_guest_writes_to_its_console_is_kept_on_the_host(standing: Standing) -> None:
    standing.bench.run(standing.computer, "sh", "-c", "echo a word from inside > /dev/ttyS0")
    log = standing.bench.path(standing.computer, "console.log")
    Patience(10).until(lambda: "a word from inside" in log.read_text(), "the console's log")


# Loads.


@pytest.fixture
def short_lived(libvirt_bench: LibvirtBench, tmp_path: Path) -> Iterator[Revision]:
    """An image without a kernel, so that it boots from its disk: there is a boot sector that turns the machine off."""
    raw, size = tmp_path / "disk.raw", 1 << 20
    raw.write_bytes(libvirt_module("accelerator").BOOT_SECTOR.ljust(size, b"\0"))
    blob = blob_of(raw)
    descriptor = ImageDescriptor(
        name="short-v1",
        image="short",
        revision=1,
        os=OperatingSystem(name="none", family="none"),
        disks=[Disk(name="disk", role=DiskRole.SYSTEM, format=DiskFormat.RAW, blob=blob, virtual_bytes=size)],
    )
    repository = open_repository(libvirt_bench.lab.repository_path)
    repository.add(descriptor, {blob.sha256: raw}, patience=Patience(60))
    yield libvirt_bench.revision("short-v1", 5)
    delete(repository, "short-v1", needed={}, patience=Patience(60))


def test_a_machine_that_dies_while_it_boots_ends_the_load_at_once(
    libvirt_bench: LibvirtBench, short_lived: Revision
) -> None:
    computer, firstboot = libvirt_bench.firstboot(libvirt_bench.computer(1))
    with pytest.raises(Refused, match="vm2 stopped while it booted"):
        libvirt_bench.provisioner(computer).load(computer, short_lived, firstboot)


def test_a_slot_is_loaded_again_and_captured_and_the_captured_image_loaded(libvirt_bench: LibvirtBench) -> None:
    bench = libvirt_bench
    first = bench.load(bench.computer(1))
    bench.run(first, "touch", "/root/first")
    second = bench.load(first)
    assert bench.run(second, "find", "/root", "-name", "first") == ""
    assert bench.domains("vm2") == ["vm2"]
    assert bench.files(second) == ALL_FILES

    bench.run(second, "sh", "-c", "echo kept > /root/second; sync")
    module = bench.provisioner(second)
    module.control_VM(second, Power.OFF)
    module.control_VM(second, Power.OFF)
    captured = bench.revision("small-v2", 2)
    module.capture(second, captured)
    with pytest.raises(Refused, match="has a revision small-v2 already"):
        module.capture(second, captured)
    assert module.get_image_size(captured, second.host) > 64 << 20

    third = bench.load(second, captured)
    assert bench.run(third, "cat", "/root/second") == "kept\n"
    assert bench.provisioner(third).node_status(third, captured) is NodeStatus.POST_LOAD


def test_a_machine_with_another_host_key_is_refused_and_its_undo_leaves_nothing(libvirt_bench: LibvirtBench) -> None:
    computer, firstboot = libvirt_bench.firstboot(libvirt_bench.computer(1))
    recorded: dict[Step, int] = {}
    remembered = Remembered(at=lambda step: recorded.update({step: len(remembered.effects)}))
    module = libvirt_bench.provisioner(computer, remembered)
    with pytest.raises(WrongHostKey):
        module.load(replace(computer, host_key=new_host_key().public), libvirt_bench.revision(), firstboot)
    before = [Step.STARTLOAD]
    after = [Step.TRANSFERVM, Step.VMSETUPCONFIG, Step.STARTVM, Step.BOOTING]
    assert [step for step in remembered.steps if step is not Step.COPYFROMPARTNER] == before + after
    assert {recorded[step] for step in before} == {0}
    assert {recorded[step] for step in after} == {1}
    for action, arguments in remembered.effects * 2:
        module.undo(action, arguments)
    assert libvirt_bench.domains("vm2") == []
    assert libvirt_bench.files(computer) == []


@pytest.mark.parametrize("action", [Power.OFF, Power.REMOVE])
def test_taking_away_what_is_not_there_succeeds(libvirt_bench: LibvirtBench, action: Power) -> None:
    computer = libvirt_bench.computer(1)
    libvirt_bench.provisioner(computer).control_VM(computer, action)


@pytest.mark.parametrize("action", [Power.ON, Power.RESET, Power.SUSPEND, Power.RESUME])
def test_a_machine_that_is_not_there_cannot_be_switched(libvirt_bench: LibvirtBench, action: Power) -> None:
    computer = libvirt_bench.computer(1)
    with pytest.raises(Refused, match="there is no machine vm2"):
        libvirt_bench.provisioner(computer).control_VM(computer, action)


def test_a_machine_of_somebody_else_is_not_touched(libvirt_bench: LibvirtBench) -> None:
    bench, computer = libvirt_bench, libvirt_bench.computer(1)
    module = bench.provisioner(computer)
    with bench.connection() as connection:
        domain = connection.createXML(FOREIGN.format(name=computer.name))
        attempts = [
            lambda: module.load(computer, bench.revision(), bench.firstboot(computer)[1]),
            *(lambda action=action: module.control_VM(computer, action) for action in Power),
            lambda: module.snapshot(computer, "theirs"),
            lambda: module.capture(computer, bench.revision("small-v9", 9)),
        ]
        for attempt in attempts:
            with pytest.raises(Refused, match="named vm2 is there already and carries no owner tag of ours") as refused:
                attempt()
            assert refused.value.hint
        place = {"uri": bench.lab.host_address, "vm_path": bench.lab.vm_path}
        module.undo("remove", {**place, "name": computer.name, "owner": module.task.owner})
        assert module.node_status(computer, bench.revision()) is NodeStatus.RELOAD
        assert domain.isActive()


KILLED = """
import os, pickle, signal, sys
sys.path.insert(0, sys.argv[1])
import fix_libvirt
lab, key, computer, firstboot, step = pickle.load(sys.stdin.buffer)
bench = fix_libvirt.LibvirtBench(lab=lab, key=key)
remembered = fix_libvirt.Remembered(at=lambda said: os.kill(os.getpid(), signal.SIGKILL) if said is step else None)
bench.provisioner(computer, remembered).load(computer, bench.revision(), firstboot)
"""


def test_a_load_that_was_killed_anywhere_is_made_good_by_the_next(libvirt_bench: LibvirtBench) -> None:
    """And one that was killed while the guest booted is not begun anew: asked, the machine is found good."""
    bench = libvirt_bench
    computer = bench.computer(1)
    for step in (Step.TRANSFERVM, Step.VMSETUPCONFIG, Step.STARTVM, Step.BOOTING):
        computer, firstboot = bench.firstboot(computer)
        told = pickle.dumps((bench.lab, bench.key, computer, firstboot, step))
        argv = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1])]
        ran = subprocess.run(argv, input=told, capture_output=True, check=False)
        assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
    module = bench.provisioner(computer)
    assert module.node_status(computer, bench.revision()) is NodeStatus.POST_LOAD
    assert bench.domains("vm2") == ["vm2"]
    assert bench.files(computer) == ALL_FILES
    bench.path(computer, "console.log.0").touch()
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(module.control_VM, [computer] * 3, [Power.REMOVE] * 3))
    assert bench.domains("vm2") == []
    assert bench.files(computer) == []
