"""The builder's pipeline, for real: a tiny system from a package tree of its own, without mocks, without network."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from a_need import need
from a_nobody import UID as NOBODY
from a_nobody import as_nobody, home
from a_process import gone
from fix_builds import EPOCH, TinyBuilds, content_of, listed
from pycdlib.pycdlib import PyCdlib

from vcl_provision.images.builder import write_profile
from vcl_provision.images.repository.loose import verify_loose
from vcl_provision.model.faults import CommandFailed, Refused

RAW = {"output": {"formats": ["raw"]}}
INSTALL, UNPACK, WRITE = "mmdebstrap", "unpack the base system", "setpriv"


def test_a_build_ends_with_a_whole_image(tiny: TinyBuilds) -> None:
    built = tiny.build(RAW)
    assert verify_loose(built.folder).descriptor == built.descriptor
    assert (built.folder / "packages.txt").exists()
    disk = built.folder / "disk.raw"
    assert content_of(disk, "/etc/hostname") == "tiny\n"
    assert content_of(disk, "/usr/share/tiny/more") == "more\n"
    assert content_of(disk, "/etc/fstab").split()[1:3] == ["/", "ext4"]
    assert tiny.left() == []


def test_a_stage_that_is_in_the_cache_is_not_run_again(tiny: TinyBuilds) -> None:
    tiny.build(name="one")
    assert tiny.heard.count(INSTALL) == 1
    tiny.build(name="two")
    assert tiny.heard.count(INSTALL) == tiny.heard.count(UNPACK) == 0
    tiny.build({"system": {"hostname": "three"}}, name="three")
    assert (tiny.heard.count(INSTALL), tiny.heard.count(UNPACK)) == (0, 1)


def test_the_same_inputs_give_the_same_bytes(tiny: TinyBuilds) -> None:
    output = {"formats": ["qcow2", "raw", "vmdk", "vdi"], "deployments": ["tarball"]}
    changes = {"source_date_epoch": EPOCH, "output": output}
    sums: list[dict[str, str]] = []
    for number in ("1", "2"):
        built = tiny.build(changes, name="out", cache=f"cache{number}", overwrite=True)
        sums.append({file.name: _sum(file) for file in built.folder.iterdir()})
        assert tiny.heard.count(INSTALL) == 1
    assert sums[0] == sums[1]
    assert {"disk.qcow2", "disk.raw", "disk.vmdk", "disk.vdi", "tiny.tar.gz", "image.yaml"} <= sums[0].keys()


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_scripts_run_where_they_say_and_no_service_may_start_meanwhile(warm: TinyBuilds) -> None:
    inside = warm.script(
        "inside", "set -e; id > /etc/inside; /usr/sbin/policy-rc.d || echo $? > /etc/policy; : > /dev/null"
    )
    outside = warm.script("outside", 'set -e; [ -e "$1/etc/inside" ]; echo "$1" > "$1/etc/outside"')
    built = warm.build({**RAW, "scripts": {"inside": [inside], "host": [outside]}})
    disk = built.folder / "disk.raw"
    assert content_of(disk, "/etc/inside").startswith("uid=0(root)")
    assert content_of(disk, "/etc/policy") == "101\n"
    assert content_of(disk, "/etc/outside").strip().endswith("/root")
    assert not listed(disk, "/usr/sbin/policy-rc.d")
    assert not listed(disk, "/run/vcl-build")


def test_what_a_script_starts_or_mounts_is_gone_with_the_build(warm: TinyBuilds) -> None:
    mark = f"{os.getpid()}.{time.monotonic_ns()}"
    daemon = warm.script("daemon", f"sleep 1{mark} > /dev/null 2>&1 &")
    mounts = warm.script(
        "mounts", 'mount -t tmpfs tmpfs "$1/mnt" 2> /dev/null || { mkdir "$1/mnt"; mount -t tmpfs tmpfs "$1/mnt"; }'
    )
    warm.build({"scripts": {"inside": [daemon], "host": [mounts]}})
    assert str(warm.folder) not in Path("/proc/self/mountinfo").read_text()
    assert gone(f"1{mark}")


@pytest.mark.parametrize("where", ["inside", "host"])
def test_a_script_that_fails_fails_the_build_and_leaves_nothing(warm: TinyBuilds, where: str) -> None:
    script = warm.script("broken", "echo it does not work >&2; exit 3")
    with pytest.raises(CommandFailed, match=r"broken.* ended with status 3: it does not work"):
        warm.build({"scripts": {where: [script]}})
    assert warm.left() == []
    assert not (warm.folder / "out").exists()
    assert not list(warm.cache.glob("guest-*"))


def test_logs_are_emptied_and_stay_their_services_own(warm: TinyBuilds) -> None:
    """xrdp's package makes its log for the user xrdp, who could not make it again: the service would not start."""
    log = "/var/log/service.log"
    script = warm.script("service", f"echo installed > {log}; chown 103:4 {log}; chmod 640 {log}")
    disk = warm.build({**RAW, "scripts": {"inside": [script]}}).folder / "disk.raw"
    assert content_of(disk, log) == ""
    assert "User:   103   Group:     4   Project:     0   Size: 0" in listed(disk, log)


def test_what_a_script_made_of_a_machines_identity_is_gone(warm: TinyBuilds) -> None:
    places = ("etc/ssh/ssh_host_rsa_key", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "etc/machine-id")
    made = "\n".join(f"mkdir -p /{Path(place).parent}; echo made > /{place}" for place in places)
    disk = warm.build({**RAW, "scripts": {"inside": [warm.script("installs", made)]}}).folder / "disk.raw"
    assert [place for place in places if listed(disk, f"/{place}")] == ["etc/machine-id"]
    assert content_of(disk, "/etc/machine-id") == ""


def test_private_keys_that_all_machines_will_share_are_named(warm: TinyBuilds) -> None:
    assert warm.build(name="without").private_keys == []
    plant = "\n".join(
        f"mkdir -p /{folder}; echo '-----BEGIN {kind}PRIVATE KEY-----' > /{folder}/key; chmod 600 /{folder}/key"
        for folder, kind in (("etc/service", ""), ("var/lib/service", "OPENSSH "), ("usr/share/doc/service", "RSA "))
    )
    built = warm.build({"scripts": {"inside": [warm.script("service", plant)]}}, name="with")
    assert built.private_keys == ["/etc/service/key", "/var/lib/service/key"]


@pytest.mark.parametrize("given", ["first_boot", "first_login"])
def test_each_script_of_the_booted_machine_is_there_without_the_other(warm: TinyBuilds, given: str) -> None:
    """VMBuilder lost a given first-login script when there was no first-boot script."""
    script = warm.script("once", f"echo {given}")
    disk = warm.build({**RAW, "scripts": {given: script}}).folder / "disk.raw"
    there = {name: bool(listed(disk, f"/usr/lib/vcl/once/{name}")) for name in ("first-boot", "first-login")}
    assert there == {"first-boot": given == "first_boot", "first-login": given == "first_login"}


def test_a_package_that_there_is_not_is_named(tiny: TinyBuilds) -> None:
    with pytest.raises(CommandFailed, match="Unable to locate package tiny-less"):
        tiny.build({"packages": {"base": ["tiny-less"]}})
    assert tiny.left() == []


def test_files_are_copied_with_mode_and_owner(warm: TinyBuilds) -> None:
    folder = warm.folder / "with blanks"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a file").write_text("a")
    (folder / "link").symlink_to("sub")
    copied = [
        {"source": str(folder), "target": "/srv/all of it"},
        {"source": str(folder / "sub/a file"), "target": "/etc/one", "mode": "0640", "owner": "root:root"},
    ]
    disk = warm.build({**RAW, "files": copied}).folder / "disk.raw"
    assert content_of(disk, '"/srv/all of it/sub/a file"') == "a"
    assert "Type: symlink" in listed(disk, '"/srv/all of it/link"')
    assert "Mode:  0640" in listed(disk, "/etc/one")


def test_packages_come_from_a_disc_image_without_any_network(tiny: TinyBuilds) -> None:
    iso = tiny.folder / "disc.iso"
    _disc(tiny.tree, iso)
    spec = tiny.spec(RAW)
    table = {"source": {"iso": str(iso), "tree": None}, **RAW}
    built = tiny.build(table)
    assert content_of(built.folder / "disk.raw", "/usr/share/tiny/more") == "more\n"
    assert spec.source.iso is None


def _disc(tree: Path, iso: Path) -> None:
    disc = PyCdlib()
    disc.new(interchange_level=4, rock_ridge="1.09")
    for path in sorted(tree.rglob("*")):
        place = "/" + str(path.relative_to(tree)).upper()
        if path.is_dir():
            disc.add_directory(place, rr_name=path.name)
        else:
            disc.add_file(str(path), place, rr_name=path.name)
    disc.add_symlink("/DISTS/STABLE", "stable", "tiny")
    disc.write(str(iso))
    disc.close()


def test_a_disc_image_that_is_none_is_refused(tiny: TinyBuilds) -> None:
    iso = tiny.folder / "disc.iso"
    iso.write_bytes(b"no disc at all" * 5000)
    with pytest.raises(Refused, match="is no ISO image"):
        tiny.build({"source": {"iso": str(iso), "tree": None}})
    assert tiny.left() == []


def test_an_image_that_is_there_is_replaced_only_when_it_may_be(warm: TinyBuilds) -> None:
    warm.build()
    with pytest.raises(Refused, match="is there already"):
        warm.build({"system": {"hostname": "other"}})
    broken = warm.script("broken", "exit 1")
    with pytest.raises(CommandFailed):
        warm.build({"scripts": {"inside": [broken]}}, overwrite=True)
    assert verify_loose(warm.folder / "out").descriptor.name == "out"
    warm.build({**RAW, "system": {"hostname": "other"}}, overwrite=True)
    assert content_of(warm.folder / "out/disk.raw", "/etc/hostname") == "other\n"
    assert warm.left() == []


def test_a_folder_of_somebody_else_is_never_replaced(warm: TinyBuilds) -> None:
    (warm.folder / "out").mkdir()
    (warm.folder / "out/thesis.tex").write_text("years of work")
    with pytest.raises(Refused, match="is no image: it is not replaced"):
        warm.build(overwrite=True)
    assert (warm.folder / "out/thesis.tex").read_text() == "years of work"


def test_two_builds_of_the_same_share_the_work(tiny: TinyBuilds) -> None:
    heard: list[int] = []

    def one(name: str) -> None:
        mine = TinyBuilds(folder=tiny.folder, tree=tiny.tree)
        mine.build(name=name)
        heard.append(mine.heard.count(INSTALL))

    threads = [threading.Thread(target=one, args=(f"out{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard) == [0, 0, 1]


def test_disks_are_written_to_a_block_device(warm: TinyBuilds) -> None:
    backing = warm.folder / "lun"
    with backing.open("wb") as file:
        file.truncate(80 << 20)
    device = subprocess.run(
        ("losetup", "-f", "--show", backing), capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        built = warm.build({"disks": {"devices": [device]}})
        assert content_of(Path(device), "/etc/hostname") == "tiny\n"
        assert not list(built.folder.glob("disk*"))
        with pytest.raises(Refused, match="holds something: ext4"):
            warm.build({"disks": {"devices": [device]}}, name="again")
    finally:
        subprocess.run(("losetup", "-d", device), check=True)


KILLED_IN = {
    "base system": "cache/.base-*.making/mmdebstrap.*/var",
    "configuration": "cache/.guest-*.making/root/etc/hostname",
    "conversion": "cache/.disks-*.making/.disk.raw.partial",
    "deployment": ".out.new/*",
}
PROGRAM = """
import sys
from pathlib import Path
from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder import build, load_profile
folder = Path(sys.argv[1])
build(load_profile(str(folder / "profile.yaml")), folder / "out", patience=Patience(120), cache=folder / "cache")
"""


@pytest.mark.parametrize("stage", KILLED_IN)
def test_a_build_killed_in_any_stage_leaves_nothing_and_is_resumed(tiny: TinyBuilds, stage: str) -> None:
    write_profile(tiny.spec(RAW), tiny.folder / "profile.yaml")
    process = subprocess.Popen((sys.executable, "-c", PROGRAM, str(tiny.folder)), start_new_session=True)
    try:
        while process.poll() is None and not any(tiny.folder.glob(KILLED_IN[stage])):
            pass
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"
    assert gone(str(tiny.folder))
    assert str(tiny.folder) not in Path("/proc/self/mountinfo").read_text()
    assert str(tiny.folder) not in subprocess.run(("losetup", "-l"), capture_output=True, text=True, check=True).stdout
    assert not (tiny.folder / "out").exists()
    built = tiny.build(RAW)
    verify_loose(built.folder)
    assert tiny.left() == []
    resumed = list(KILLED_IN).index(stage)
    assert tiny.heard.count(INSTALL) == (1 if resumed == 0 else 0)
    assert tiny.heard.count(UNPACK) == (1 if resumed <= 1 else 0)


def test_whoever_is_not_root_builds_too(tiny: TinyBuilds) -> None:
    """With further ids from /etc/subuid, as most distributions give to each user: owners are right inside."""
    need("newuidmap", "newgidmap")
    with home() as folder:
        shutil.copytree(tiny.tree, folder / "tree")
        theirs = TinyBuilds(folder=folder, tree=folder / "tree")
        owned = theirs.script("owned", "echo x > /etc/theirs; chown 1000:42 /etc/theirs; chmod 600 /etc/theirs")
        write_profile(theirs.spec({**RAW, "scripts": {"inside": [owned]}}), folder / "profile.yaml")
        ran = as_nobody((sys.executable, "-c", PROGRAM, str(folder)), folder)
        assert ran.returncode == 0, ran.stderr[-3000:]
        disk = folder / "out/disk.raw"
        assert disk.stat().st_uid == NOBODY
        assert "User:  1000   Group:    42" in listed(disk, "/etc/theirs")
        assert "Mode:  0600" in listed(disk, "/etc/theirs")
        assert "User:     0   Group:     0" in listed(disk, "/etc/hostname")
        assert content_of(disk, "/etc/theirs") == "x\n"
        assert theirs.left() == []
