"""The guests that we build, booted for real under QEMU: what the management node and its modules rely on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import paramiko
import pytest
from fix_guests import BareGuest

from vcl_provision.channels.keys import KeyPair, new_host_key, new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.drivers import password_hash
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.secret import Secret

PASSWORD = "known to this test only"
BOOT = 240.0
"""Seconds for a boot that takes 15 on an idle machine; CI's is not idle."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A guest that is up, and what it was told."""

    guest: BareGuest
    told: FirstBoot
    recipe: str

    def says(self, command: str) -> str:
        """What a command that succeeds prints."""
        answer = self.guest.run(command, Patience(60))
        assert answer.status == 0, (command, answer)
        return answer.stdout.strip()

    def refuses(self, command: str) -> str:
        """What a command that fails complains of."""
        answer = self.guest.run(command, Patience(60))
        assert answer.status != 0, (command, answer)
        return answer.stderr.strip()


def firstboot(management: KeyPair) -> FirstBoot:
    host = new_host_key()
    return FirstBoot(
        instance="first",
        hostname="vm17.lab",
        host_key=host.public,
        host_key_private=host.private,
        management_keys=[management.public],
        root_password_hash=password_hash(Secret(PASSWORD)),
        parameters={"greeting": "grüße\nsecond line"},
    )


@pytest.fixture(scope="module", params=["small", "debian12"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    image: Path = request.getfixturevalue({"small": "small_image", "debian12": "debian_image"}[request.param])
    management = new_key()
    told = firstboot(management)
    with BareGuest(image, tmp_path_factory.mktemp(request.param), told, management) as guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))  # as root, by key, against the pinned host key
        yield Running(guest=guest, told=told, recipe=request.param)


def test_a_guest_has_the_name_and_the_keys_that_it_was_told(running: Running) -> None:
    assert running.says("hostname; cat /etc/hostname") == "vm17.lab\nvm17.lab"
    assert running.says("getent hosts vm17").split() == ["127.0.1.1", "vm17.lab", "vm17"]
    assert running.says("cat /etc/ssh/ssh_host_*.pub") == running.told.host_key
    assert running.says("cat /root/.ssh/authorized_keys") == running.told.management_keys[0]
    secret = "/root/.ssh /root/.ssh/authorized_keys /etc/ssh/ssh_host_ed25519_key"
    assert running.says(f"stat -c '%a %U' {secret}").splitlines() == ["700 root", "600 root", "600 root"]
    assert running.says("cat /etc/vcl/parameters/greeting") == running.told.parameters["greeting"]


def test_nothing_of_the_first_boot_disk_stays_mounted(running: Running) -> None:
    assert "iso9660" not in running.says("cat /proc/mounts")


def test_root_gets_in_by_key_and_never_by_password(running: Running) -> None:
    assert running.told.root_password_hash
    assert running.told.root_password_hash.reveal() in running.says("getent shadow root")
    with pytest.raises(paramiko.AuthenticationException, match="Authentication failed"):
        running.guest.log_in("root", PASSWORD, Patience(60))


def test_systemd_is_content_where_it_is(running: Running) -> None:
    if running.recipe == "small":
        assert running.says("cat /proc/1/comm") == "init"
        return
    assert running.says("systemctl is-system-running --wait || systemctl --failed") == "running"
    assert running.says("loginctl list-sessions --no-legend").split()[2] == "root"
    assert len(running.says("cat /etc/machine-id")) == 32
    assert running.says("readlink /etc/resolv.conf").endswith("stub-resolv.conf")


def test_an_emulated_processor_loads_the_firewalls_modules_and_none_of_its_own(running: Running) -> None:
    if running.recipe == "small":
        return
    running.says("udevadm settle")
    loaded = {line.split()[0] for line in running.says("cat /proc/modules").splitlines()}
    assert loaded >= {"nf_tables", "nft_ct", "crc32c_intel"}
    assert not loaded & {"kvm", "kvm_amd", "kvm_intel", "powernow_k8", "aesni_intel"}


def test_a_users_manager_reads_environment_and_autostart_where_there_are_any(running: Running) -> None:
    """What stands before systemd's generators lets them work when there is work."""
    if running.recipe == "small":
        return
    running.says("mkdir -p /etc/environment.d /etc/xdg/autostart; echo GREETING=moin > /etc/environment.d/50-test.conf")
    entry = "[Desktop Entry]\\nType=Application\\nName=greet\\nExec=/bin/true\\n"
    running.says(f"printf '{entry}' > /etc/xdg/autostart/greet.desktop; useradd -m carol")
    asked = "export XDG_RUNTIME_DIR=/run/user/$(id -u); systemctl --user {}"
    running.says("systemctl start user@$(id -u carol)")
    assert "GREETING=moin" in running.says(f"runuser -u carol -- sh -c '{asked.format('show-environment')}'")
    assert "generated" in running.says(f"runuser -u carol -- sh -c '{asked.format('list-unit-files app-greet*')}'")
    running.says("systemctl stop user@$(id -u carol); userdel -r carol; rm -r /etc/environment.d /etc/xdg/autostart")


def test_a_user_is_added_gets_in_by_password_and_is_removed(running: Running) -> None:
    running.says("useradd -m -s /bin/bash alice")
    running.says(f"echo 'alice:{PASSWORD}' | chpasswd")
    running.guest.log_in("alice", PASSWORD, Patience(60)).close()
    running.says("usermod -aG sudo alice")
    assert "sudo" in running.says("id -Gn alice")
    running.says("pkill -KILL -u alice; userdel -r alice")
    assert "no such user" in running.refuses("id alice")


def test_the_programs_that_the_os_module_uses_are_there(running: Running) -> None:
    tools = "useradd usermod userdel chpasswd passwd nft ss ip pkill sudo wall visudo"
    assert len(running.says(f"for tool in {tools}; do command -v $tool || exit; done").splitlines()) == 12
    running.says("nft add table inet test; nft list table inet test; nft delete table inet test")
    running.says("echo 'a notice' | wall")
    assert ":22" in running.says("ss -Htln")
    assert running.says("sudo -n id -un") == "root"


def test_a_kept_connection_carries_many_channels(running: Running) -> None:
    open_at_once = [running.guest.transport.open_session(timeout=60) for _ in range(15)]
    assert all(channel.active for channel in open_at_once)
    for channel in open_at_once:
        channel.close()
    assert "usedns no" in running.says("sshd -T")


def test_the_power_button_turns_a_guest_off(running: Running) -> None:
    """The last one: the guest is off afterwards."""
    running.says("systemctl is-system-running --wait || true")
    running.guest.press_power_button()
    running.guest.wait_until_off(Patience(120))


def test_an_instance_is_told_once_and_the_next_one_anew(small_image: Path, tmp_path: Path) -> None:
    management = new_key()
    first = firstboot(management)
    guest = BareGuest(small_image, tmp_path, first, management)
    with guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        guest.run("echo changed > /etc/hostname; sync", Patience(60))
    with guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        assert guest.run("hostname", Patience(60)).stdout == "changed\n"
    host = new_host_key()
    guest.firstboot = replace(first, instance="next", host_key=host.public, host_key_private=host.private)
    with guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        assert guest.run("hostname", Patience(60)).stdout == "vm17.lab\n"


def test_a_guest_that_is_told_nothing_makes_a_host_key_and_lets_nobody_in(small_image: Path, tmp_path: Path) -> None:
    with BareGuest(small_image, tmp_path, None, new_key()) as guest:
        guest.start()
        with pytest.raises(paramiko.AuthenticationException, match="Authentication failed"):
            guest.wait_until_usable(Patience(BOOT))
