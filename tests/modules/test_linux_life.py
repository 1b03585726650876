"""The Linux module over a guest's whole life: up, restarted, made an image, off; with systemd and without."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from a_module import guest_module
from a_person import REVISION, a_person
from a_task import a_task
from fix_guest_lan import LanGuest, lan_guest

from vcl_provision.channels.patience import Patience
from vcl_provision.drivers import Guest


@pytest.fixture
def patience() -> Patience:
    """Two boots of an emulated machine."""
    return Patience(600)


@contextmanager
def a_guest(image: Path, folder: Path, patience: Patience) -> Generator[tuple[LanGuest, Guest[Any]]]:
    module = guest_module("linux")
    with lan_guest(image, folder) as guest:
        guest.reach(patience)
        linux = module(module.Options(), a_task(folder, guest.computer, guest.connections, patience))
        linux.wait_ready(guest.computer)
        linux.post_load(guest.computer, REVISION)
        yield guest, linux


def test_a_restarted_guest_is_open_for_the_same_user_only(
    small_image: Path, tmp_path: Path, patience: Patience
) -> None:
    alice = a_person(tmp_path, "alice")
    with a_guest(small_image, tmp_path, patience) as (guest, linux):
        linux.add_user(guest.computer, REVISION, alice.user)
        linux.grant_access(guest.computer, REVISION, alice.user, guest.lan.user[0])
        before = guest.asks("cat /proc/sys/kernel/random/boot_id", patience)
        linux.reboot(guest.computer)
        assert guest.asks("cat /proc/sys/kernel/random/boot_id", patience) != before
        assert alice.asks(guest, "id -un") == "alice\n"
        assert guest.shuts_out(guest.lan.stranger[0])
        linux.shutdown(guest.computer)
        assert guest.process.wait(120) == 0


def test_a_guest_with_systemd_is_loaded_used_made_an_image_and_shut_down(
    debian_image: Path, tmp_path: Path, patience: Patience
) -> None:
    alice = a_person(tmp_path, "alice")
    with a_guest(debian_image, tmp_path, patience) as (guest, linux):
        assert guest.asks("systemctl is-active systemd-user-sessions", patience) == "active\n"
        linux.add_user(guest.computer, REVISION, alice.user)
        linux.grant_access(guest.computer, REVISION, alice.user, guest.lan.user[0])
        assert alice.asks(guest, "id -un; hostname; sudo -n id -un").split() == ["alice", "guest-1", "root"]
        assert guest.shuts_out(guest.lan.stranger[0])
        linux.delete_user(guest.computer, "alice")
        left = "getent passwd alice; ls /home /run/user/1000; loginctl list-users --no-legend | grep alice"
        assert guest.asks(f"({left}) 2>/dev/null", patience) == "/home:\n"
        linux.pre_capture(guest.computer, REVISION)
        left = (
            "ls /etc/ssh/ssh_host_*_key /root/.ssh/authorized_keys /var/lib/vcl; cat /etc/machine-id; nft list tables"
        )
        assert guest.asks(f"({left}) 2>/dev/null", patience) == ""
        assert guest.asks("find /var/log -type f -size +64k; getent shadow root | cut -d: -f2", patience) == "*\n"
        linux.shutdown(guest.computer)
        assert guest.process.wait(120) == 0
