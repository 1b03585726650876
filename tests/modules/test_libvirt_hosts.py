"""VM hosts: this machine's own private one, one behind ssh, one that is not there; and what an accelerator is worth."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from a_lab import a_lab
from a_need import need_root
from fix_libvirt import LibvirtBench, libvirt_module, put_in_repository, spare_image
from fix_sshd import Sshd

from vcl_provision.channels.patience import Patience
from vcl_provision.drivers import LocalLab
from vcl_provision.drivers.conformance.ports import EagerGuests
from vcl_provision.drivers.loading import Modules
from vcl_provision.faces.images.datastores import Datastores
from vcl_provision.images.repository import delete, open_repository
from vcl_provision.model.faults import HostUnreachable, Refused
from vcl_provision.model.lab import VmHost
from vcl_provision.model.states import NodeStatus, Power
from vcl_provision.store.database import Connection, Database

TOP = Path(__file__).parents[2]
SSH = """#!/bin/sh
exec ssh -F none -o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes "$@"
"""
NETCAT = """#!{python}
import shutil, socket, sys, threading
if "-U" in sys.argv:
    there = socket.socket(socket.AF_UNIX)
    there.connect(sys.argv[-1])
    def back():
        while data := there.recv(65536):
            sys.stdout.buffer.raw.write(data)
    threading.Thread(target=back, daemon=True).start()
    while data := sys.stdin.buffer.raw.read(65536):
        there.sendall(data)
"""


@pytest.fixture
def remote_host(libvirt_bench: LibvirtBench, sshd: Sshd, tmp_path: Path) -> VmHost:
    """The same libvirt, behind ssh: for the module it is another machine, whose files it cannot see. Machines are on
    a bridge, whose addresses somebody else gives (here, the same libvirt's network)."""
    for name, text in (("ssh", SSH), ("netcat", NETCAT)):
        script = tmp_path / name
        script.write_text(text.format(folder=tmp_path, python=sys.executable))
        script.chmod(0o755)
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(sshd.key.private.reveal())
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {sshd.host.public}\n")
    socket = libvirt_bench.lab.host_address.partition("socket=")[2]
    programs = f"command={tmp_path}/ssh&proxy=netcat&netcat={tmp_path}/netcat"
    return libvirt_bench.host(
        address=f"qemu+ssh://root@127.0.0.1:{sshd.port}/system?{programs}&socket={socket}",
        credentials=f"file:{key}",
        datastore_path=str(tmp_path / "masters"),
        network=f"bridge:{libvirt_bench.lab.network}",
    )


def test_a_host_behind_ssh_is_loaded_and_captured_as_a_local_one(
    libvirt_bench: LibvirtBench, remote_host: VmHost, tmp_path: Path
) -> None:
    bench = libvirt_bench
    computer = bench.load(bench.computer(1, host=remote_host))
    module = bench.provisioner(computer)
    assert module.node_status(computer, bench.revision()) is NodeStatus.POST_LOAD
    assert module.does_image_exist(bench.revision(), remote_host)

    bench.run(computer, "sh", "-c", "echo far > /root/away; sync")
    module.control_VM(computer, Power.OFF)
    captured = bench.revision("small-v3", 3)
    module.capture(computer, captured)
    raw = tmp_path / "captured.raw"
    repository = open_repository(bench.lab.repository_path)
    disk = repository.path_of(repository.get(captured.name).system_disk.blob)
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(raw)], check=True)
    read = ["debugfs", "-R", "cat /root/away", str(raw)]
    assert subprocess.run(read, check=True, capture_output=True).stdout == b"far\n"


def test_room_on_a_host_behind_ssh_is_measured_and_asked_for_as_on_a_local_one(
    libvirt_bench: LibvirtBench, remote_host: VmHost, tmp_path: Path
) -> None:
    bench, disk = libvirt_bench, shutil.disk_usage(tmp_path)
    found = bench.provisioner(bench.computer(1)).disks(remote_host)
    assert (found.masters.path, found.machines.path) == (str(tmp_path / "masters"), bench.lab.vm_path)
    assert {found.masters.total, found.machines.total} == {disk.total}
    assert 0 < found.machines.free <= disk.total
    small = replace(remote_host, profile=replace(remote_host.profile, keep_free_mb=disk.total >> 20))
    computer, firstboot = bench.firstboot(bench.computer(1, host=small))
    module = bench.provisioner(computer)
    with pytest.raises(Refused, match=rf"{tmp_path}/masters is full: \d+ bytes are free, \d+ are needed and"):
        module.retrieve_image(bench.revision(), small)
    with pytest.raises(Refused, match=f"{bench.lab.vm_path} is full"):
        module.load(computer, bench.revision(), firstboot)
    assert list((tmp_path / "masters").iterdir()) == []
    assert bench.files(computer) == []


def test_a_host_that_is_not_there_is_unreachable_and_named(libvirt_bench: LibvirtBench, tmp_path: Path) -> None:
    host = libvirt_bench.host(address=f"qemu+unix:///system?socket={tmp_path}/none")
    module = libvirt_bench.provisioner(libvirt_bench.computer(1, host=host))
    with pytest.raises(HostUnreachable, match=f"{tmp_path}/none does not answer"):
        module.inventory(host)


def test_the_boot_that_proves_an_accelerator_does_prove_one(libvirt_bench: LibvirtBench) -> None:
    accelerator, volumes = libvirt_module("accelerator"), libvirt_module("volumes")
    hypervisor = libvirt_module("connections").Hypervisor(libvirt_bench.lab.host_address)
    patience = Patience(30)
    with hypervisor.connected(patience) as connection:
        pool = volumes.pool_at(connection, libvirt_bench.lab.vm_path)
        disk = volumes.put_bytes(connection, pool, "probe", accelerator.BOOT_SECTOR)
        assert accelerator._turns_itself_off(connection, accelerator._described("vm-probe", disk, "qemu"), patience)
        volumes.remove_file(pool, "probe")
    hypervisor.close()
    assert libvirt_bench.domains("vm-") == []


# This machine as a host.


def processes_in(folder: Path) -> list[int]:
    return list(libvirt_module("keeper").daemon_processes(folder / "libvirt"))


def bridge(lab: LocalLab) -> Path:
    """Where the lab's bridge is seen while there is one. Others' bridges come and go beside it."""
    return Path("/sys/class/net", lab.network, "bridge")


def test_a_host_that_others_use_too_gets_a_network_and_loses_it_again(
    libvirt_bench: LibvirtBench, small_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VCL_LIBVIRT_URI", libvirt_bench.lab.host_address)
    module = libvirt_module().MODULE
    lab = module.up(tmp_path, 2)
    guest = LibvirtBench(lab=lab)
    put_in_repository(small_image, Path(lab.repository_path), "small-v1")
    computer, firstboot = guest.firstboot(guest.computer(1))
    guest.provisioner(computer, guests=EagerGuests()).load(computer, guest.revision(), firstboot)
    with libvirt_bench.connection() as connection:
        assert {lab.network, libvirt_bench.lab.network} <= {net.name() for net in connection.listAllNetworks()}
        assert guest.domains("vm2") == ["vm2"]
        module.down(tmp_path)
        assert guest.domains("vm2") == []
        assert [net.name() for net in connection.listAllNetworks()] == [libvirt_bench.lab.network]
        assert not [pool for pool in connection.listAllStoragePools() if str(tmp_path) in pool.XMLDesc()]
    guest.kept.close()


def zombies() -> set[str]:
    """Names of our children that have ended and were not asked for."""
    return {child.name() for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE}


def test_a_private_host_comes_up_once_and_leaves_nothing(tmp_path: Path) -> None:
    local_host = libvirt_module("local_host")
    try:
        lab = local_host.up(tmp_path, 2, forward="", accelerator="tcg", watched=os.getpid())
        assert local_host.up(tmp_path, 2) == lab
        assert bridge(lab).exists()
        assert processes_in(tmp_path)
    finally:
        local_host.down(tmp_path)
    assert processes_in(tmp_path) == []
    assert zombies() == set()
    assert not bridge(lab).exists()
    local_host.down(tmp_path)


@pytest.mark.parametrize("victim", ["the process that wanted it", "its keeper"])
def test_a_private_host_can_be_cleared_whoever_was_killed(tmp_path: Path, victim: str) -> None:
    local_host, keeper = libvirt_module("local_host"), libvirt_module("keeper")
    with subprocess.Popen(["sleep", "600"]) as wanting:
        try:
            lab = local_host.up(tmp_path, 1, forward="", accelerator="tcg", watched=wanting.pid)
            if victim == "its keeper":
                os.kill(keeper.keeper_of(tmp_path / "libvirt"), signal.SIGKILL)
            else:
                wanting.kill()
                Patience(30).until(lambda: not processes_in(tmp_path), "the keeper to end all", every=0.05)
                assert not bridge(lab).exists()
        finally:
            wanting.kill()
            local_host.down(tmp_path)
    assert processes_in(tmp_path) == []
    assert zombies() == set()
    assert not bridge(lab).exists()


A_MACHINE_OF_THEIR_OWN = (
    *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"),
    *('mount -t tmpfs tmpfs /run && mount -t sysfs sysfs /sys && exec "$@"', "sh"),
)
TWO_LABS = """
import os, subprocess, sys
from pathlib import Path
from fix_libvirt import libvirt_binding, libvirt_module

def up(name):
    return local_host.up(Path(sys.argv[1], name), 1, forward="", accelerator="tcg", watched=os.getpid())

local_host = libvirt_module("local_host")
place, chains = Path("/run/libvirt"), ["iptables", "-S", "LIBVIRT_INP"]
assert not place.exists()
_, lab = up("one"), up("other")
local_host.down(Path(sys.argv[1], "one"))
assert libvirt_binding().open(lab.host_address).networkLookupByName(lab.network).isActive()
assert up("other") == lab
assert any(libvirt_module("keeper").daemon_processes(Path(sys.argv[1], "other", "libvirt")))
subprocess.run(chains, check=True)
local_host.down(Path(sys.argv[1], "other"))
assert not place.exists()
assert subprocess.run(chains, check=False).returncode
print("well")
"""


def test_the_last_private_host_of_a_machine_takes_along_what_they_shared(tmp_path: Path) -> None:
    """And an earlier one does not: a place that goes while another is mounted on it takes that one's daemon along."""
    need_root()
    script = [sys.executable, "-c", TWO_LABS, str(tmp_path)]
    paths = {"PYTHONPATH": f"{TOP}:{TOP / 'tests'}"}
    ran = subprocess.run(
        [*A_MACHINE_OF_THEIR_OWN, *script], env=os.environ | paths, capture_output=True, text=True, check=False
    )
    assert ran.stdout.endswith("well\n"), ran.stderr


WITHOUT_BINDING = """
import sys
sys.modules["libvirt"] = None
from vcl_provision.drivers.loading import Modules
print(*Modules().provisioner("libvirt").missing(), sep="\\n")
"""


def test_a_machine_without_the_binding_is_told_how_to_get_it() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_BINDING], cwd=TOP, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("libvirt for Python: apt-get install libvirt-dev")


def test_a_folder_with_too_long_a_path_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="too long a path"):
        libvirt_module("local_host").up(tmp_path / ("x" * 100), 1)


# Masters that nothing needs any more.


LATER = datetime.now(UTC) + timedelta(days=9)


@pytest.mark.parametrize("way", ["local", "remote"])
def test_a_master_goes_when_no_revision_names_it_and_no_machine_rests_on_it(
    libvirt_bench: LibvirtBench, remote_host: VmHost, tmp_path: Path, way: str
) -> None:
    bench = libvirt_bench
    host = remote_host if way == "remote" else bench.host(datastore_path=str(tmp_path / "here"))
    spare = spare_image(bench, tmp_path, "small-v6" if way == "local" else "small-v7")
    sha256, computer = spare.system_disk.blob.sha256, bench.computer(1, host=host)
    computer, firstboot = bench.firstboot(computer)
    module = bench.provisioner(computer, guests=EagerGuests())
    module.load(computer, bench.revision(spare.name, spare.revision), firstboot)
    module.control_VM(computer, Power.OFF)
    (lies,) = [each for each in module.masters(host) if each.sha256 == sha256]
    assert lies.bytes == spare.system_disk.blob.bytes
    assert any(computer.name in holder for holder in lies.holders)
    assert sha256 not in {each.sha256 for each in module.remove_masters(host, tuple, LATER)}

    module.control_VM(computer, Power.REMOVE)
    (lies,) = [each for each in module.masters(host) if each.sha256 == sha256]
    assert lies.holders == []
    assert module.remove_masters(host, lambda: {each.sha256 for each in module.masters(host)}, LATER) == []
    assert module.remove_masters(host, tuple, datetime.now(UTC) - timedelta(days=1)) == []  # all is young
    assert sha256 in {each.sha256 for each in module.remove_masters(host, tuple, LATER)}
    assert not module.does_image_exist(bench.revision(spare.name, spare.revision), host)
    delete(open_repository(bench.lab.repository_path), spare.name, needed={}, patience=Patience(10))


def test_a_load_whose_master_is_removed_at_the_last_moment_brings_it_again(
    libvirt_bench: LibvirtBench, tmp_path: Path
) -> None:
    """Removed by somebody who looked when there was no machine yet, and waits for nobody."""
    bench, host = libvirt_bench, libvirt_bench.host(datastore_path=str(tmp_path / "here"))
    computer, firstboot = bench.firstboot(bench.computer(1, host=host))
    other = bench.provisioner(bench.computer(2, host=host))
    removed: list[str] = []

    class Removing(type(bench.locks)):  # type: ignore[misc]  # the bench's own locks, with somebody before each
        def together(self, name: str, *, patience: Patience) -> AbstractContextManager[None]:
            if not removed:
                removed.extend(each.sha256 for each in other.remove_masters(host, tuple, LATER))
            return super().hold(name, patience=patience)

    module = bench.provisioner(computer, guests=EagerGuests(), locks=Removing())
    module.load(computer, bench.revision(), firstboot)
    assert len(removed) == len(open_repository(bench.lab.repository_path).get("small-v1").blobs)
    assert module.does_image_exist(bench.revision(), host)


def test_a_master_of_a_disk_that_libvirt_knows_no_machine_of_stays(libvirt_bench: LibvirtBench, tmp_path: Path) -> None:
    """Also two steps away: an overlay on an overlay, in another folder than ours."""
    bench, host = libvirt_bench, libvirt_bench.host(datastore_path=str(tmp_path / "here"))
    module = bench.provisioner(bench.computer(1, host=host))
    module.retrieve_image(bench.revision(), host)
    image = open_repository(bench.lab.repository_path).get("small-v1")
    disk = image.system_disk
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    master, below, top = tmp_path / "here" / disk.blob.sha256, elsewhere / "below", Path(bench.lab.vm_path, "top")
    for new, under, kind in ((below, master, str(disk.format)), (top, below, "qcow2")):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", under, "-F", kind, new], check=True)
    try:
        gone = {each.sha256 for each in module.remove_masters(host, tuple, LATER)}
    finally:
        top.unlink()
    assert disk.blob.sha256 not in gone
    assert master.exists()


def test_gc_of_a_lab_asks_each_host_and_keeps_what_repository_or_database_name(
    libvirt_bench: LibvirtBench, conn: Connection, database: Database, tmp_path: Path
) -> None:
    bench, host = libvirt_bench, libvirt_bench.host(datastore_path=str(tmp_path / "here"))
    profile = {
        "repository_path": host.profile.repository_path,
        "datastore_path": host.profile.datastore_path,
        "vm_path": host.profile.vm_path,
    }
    lab = a_lab(conn, module="libvirt", address=host.address, profile=profile)
    conn.execute(
        "INSERT INTO vm_host (name, address, vm_profile_id, module) VALUES ('away', %s, %s, 'libvirt')",
        [f"qemu+unix:///system?socket={tmp_path}/none", lab.profile_id],
    )
    spare = spare_image(bench, tmp_path, "small-v8")
    sha256 = spare.system_disk.blob.sha256
    bench.provisioner(bench.computer(1)).retrieve_image(bench.revision(spare.name, 8), host)
    datastores = Datastores(database, Modules(), Patience(60))

    def would_go() -> set[str]:
        away, seen = datastores.unneeded(LATER)
        assert "does not answer" in away.fault
        assert seen.fault == ""
        return {each.sha256 for each in seen.masters}

    assert would_go() == set()  # the repository names all
    delete(open_repository(bench.lab.repository_path), spare.name, needed={}, patience=Patience(10))
    assert would_go() == {sha256}
    conn.execute("UPDATE computer SET loaded_revision_id = %s WHERE name = 'vcl-1'", [lab.revision_id])
    conn.execute(
        "UPDATE image_revision SET production = false, deleted_at = vcl.now() WHERE id = %s", [lab.revision_id]
    )
    conn.execute(
        "INSERT INTO image_file (image_revision_id, position, role, name, format, bytes, sha256, virtual_bytes)"
        " VALUES (%s, 9, 'data', 'spare', 'raw', 1, %s, 1)",
        [lab.revision_id, sha256],
    )
    assert would_go() == set()  # a computer holds it
    conn.execute("UPDATE computer SET loaded_revision_id = NULL")
    assert (tmp_path / "here" / sha256).exists()
    _, seen = datastores.remove(LATER)
    datastores.kept.close()
    assert [each.sha256 for each in seen.masters] == [sha256]
    assert not (tmp_path / "here" / sha256).exists()
