"""Every profile built and booted, and real systems built twice: minutes each, so by `make test-profiles`, not in CI.

CI builds and boots minimal and server, and builds twice what is tiny.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from a_vcl import vcl_here
from fix_builds import EPOCH, need_builds
from fix_guests import BareGuest, stage_cache

from vcl_provision.channels.keys import new_host_key, new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder import build, load_profile, profile_names
from vcl_provision.images.firstboot import FirstBoot

BOOT = 900.0
PROGRAM = "int main(void) { return 0; }"
WORKS = {
    "desktop": "systemctl is-active xrdp && ss -Htln sport = :3389 | grep -q 3389 && command -v xfce4-session",
    "developer": f"echo '{PROGRAM}' > /tmp/a.c && gcc -o /tmp/a /tmp/a.c && /tmp/a && python3 -m venv /tmp/v",
    "build-test": "command -v debuild lintian autopkgtest && dpkg --print-architecture",
    "server": "systemctl is-active cron chrony && command -v tmux",
    "minimal": "systemctl is-active systemd-networkd",
    "debian12": "command -v nano ping",
    "small": "command -v nft sudo",
}
"""What shows that a profile is what it says."""


def test_there_is_a_question_for_each_profile() -> None:
    assert set(WORKS) == set(profile_names())


@pytest.mark.parametrize("profile", WORKS)
def test_a_profile_boots_and_is_what_it_says(profile: str, tmp_path: Path) -> None:
    need_builds()
    image = tmp_path / profile
    ran = vcl_here(["build", profile, "--into", str(image), "--cache", str(stage_cache()), "--json"])
    assert ran.returncode == 0, ran.stderr
    management, host = new_key(), new_host_key()
    told = FirstBoot(
        instance="first",
        hostname="vm1",
        host_key=host.public,
        host_key_private=host.private,
        management_keys=[management.public],
    )
    with BareGuest(image, tmp_path / "run", told, management) as guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        if load_profile(profile).distribution != "busybox":
            answer = guest.run("systemctl is-system-running --wait || systemctl --failed", Patience(BOOT))
            assert answer.stdout == "running\n", answer
        answer = guest.run(WORKS[profile], Patience(BOOT))
        assert answer.status == 0, answer


@pytest.mark.parametrize("profile", ["small", "minimal"])
def test_a_real_system_built_twice_is_the_same_to_the_last_bit(profile: str, tmp_path: Path) -> None:
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
