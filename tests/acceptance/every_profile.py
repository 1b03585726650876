"""Every profile built and booted, and real systems built twice: minutes each, so by `make test-profiles`, not in CI.

CI builds and boots minimal and server, and builds twice what is tiny.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import a_rdp
import pytest
from a_vcl import vcl_here
from fix_builds import EPOCH, need_builds
from fix_guests import BareGuest, stage_cache

from vcl_provision.channels.keys import KeyPair, new_host_key, new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder import build, load_profile, profile_names
from vcl_provision.images.firstboot import FirstBoot

BOOT = 900.0
WORKS = {path.stem: path for path in (Path(__file__).parent / "profile_works").glob("*.sh")}
"""What shows that a profile is what it says: run in the booted guest, all of it must succeed."""


def test_there_is_a_question_for_each_profile() -> None:
    assert set(WORKS) == set(profile_names())


@pytest.mark.parametrize("profile", sorted(WORKS))
def test_a_profile_boots_and_is_what_it_says(profile: str, tmp_path: Path) -> None:
    need_builds()
    image = tmp_path / profile
    ran = vcl_here(["build", profile, "--into", str(image), "--cache", str(stage_cache()), "--json"])
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["private_keys"] == []
    management = new_key()
    with BareGuest(image, tmp_path / "run", _first_boot(management), management) as guest:
        began = time.monotonic()
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        _note(profile, said, time.monotonic() - began)
        if load_profile(profile).distribution != "busybox":
            answer = guest.run("systemctl is-system-running --wait || systemctl --failed", Patience(BOOT))
            assert answer.stdout == "running\n", answer
        answer = guest.run(WORKS[profile].read_text(), Patience(BOOT))
        assert answer.status == 0, answer
        if profile == "desktop":
            _speaks_rdp_with_a_key_of_its_own(guest)


def _first_boot(management: KeyPair) -> FirstBoot:
    host = new_host_key()
    return FirstBoot(
        instance="first",
        hostname="vm1",
        host_key=host.public,
        host_key_private=host.private,
        management_keys=[management.public],
    )


def _note(profile: str, said: dict[str, Any], to_ssh: float) -> None:
    """For docs/building-images.md: `make test-profiles PYTEST=-rP` shows it."""
    built, size = sum(said["seconds"].values()), said["image"]["disks"][0]["blob"]["bytes"]
    print(  # noqa: T201 - shown on request
        f"{profile}: built in {built:.0f} s, {size >> 20} MiB, {to_ssh:.0f} s to ssh"
    )


def _speaks_rdp_with_a_key_of_its_own(guest: BareGuest) -> None:
    with guest.transport.open_channel("direct-tcpip", ("127.0.0.1", 3389), ("127.0.0.1", 0), timeout=60) as stream:
        stream.settimeout(60)
        assert a_rdp.negotiate(stream) == a_rdp.TLS
        shown = a_rdp.certificate(stream)
    answer = guest.run("cat /etc/ssl/certs/ssl-cert-snakeoil.pem; stat -c '%U %a' /etc/xrdp/rsakeys.ini", Patience(60))
    assert answer.stdout == f"{shown}xrdp 600\n"


def test_a_machine_that_nobody_manages_makes_its_own_ssh_keys(tmp_path: Path) -> None:
    need_builds()
    key, image = new_key(), tmp_path / "image"
    (tmp_path / "root.pub").write_text(key.public)
    words = ["--unmanaged", "--ssh-key", f"{tmp_path}/root.pub", "--into", str(image), "--json"]
    ran = vcl_here(["build", "minimal", "--cache", str(stage_cache()), *words])
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["private_keys"] == []
    with BareGuest(image, tmp_path / "run", None, key) as guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        assert guest.run("ls /etc/ssh/ssh_host_*_key | wc -l", Patience(BOOT)).stdout == "3\n"


@pytest.mark.parametrize("filesystem", ["xfs", "btrfs"])
def test_another_file_system_boots_from_its_disk_and_fills_a_larger_one(filesystem: str, tmp_path: Path) -> None:
    need_builds()
    image, run, management = tmp_path / "image", tmp_path / "run", new_key()
    words = ["--filesystem", filesystem, "--boot", "bios", "--root-size", "1G", "--into", str(image)]
    ran = vcl_here(["build", "minimal", "--cache", str(stage_cache()), *words])
    assert ran.returncode == 0, ran.stderr
    run.mkdir()
    larger = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image / "disk.qcow2")
    subprocess.run((*larger, run / "overlay.qcow2", "3G"), check=True)
    with BareGuest(image, run, _first_boot(management), management) as guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        answer = guest.run(
            "systemctl is-system-running --wait; df --output=fstype,size -BM / | tail -n 1", Patience(BOOT)
        )
        state, fstype, size = answer.stdout.split()
        assert (state, fstype) == ("running", filesystem)
        assert int(size.rstrip("M")) > 2500


@pytest.mark.parametrize("profile", ["small", "minimal", "desktop", "developer", "build-test"])
def test_a_real_system_built_twice_is_the_same_to_the_last_bit(profile: str, tmp_path: Path) -> None:
    """Nothing random is in it: no key either that a package made for itself, and every clone would share."""
    need_builds()
    spec = load_profile(profile, {"source_date_epoch": EPOCH})
    sums: list[str] = []
    for number in ("1", "2"):
        cache = tmp_path / f"cache{number}"
        built = build(spec, tmp_path / number, patience=Patience(3600), cache=cache)
        with (built.folder / "disk.qcow2").open("rb") as disk:
            sums.append(hashlib.file_digest(disk, "sha256").hexdigest())
        shutil.rmtree(cache)
    assert sums[0] == sums[1]
