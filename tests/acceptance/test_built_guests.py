"""`vcl build` with all that it can be told, and the guest that comes of it: under a BIOS, then under UEFI."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest
from a_vcl import vcl_here
from fix_builds import listed, need_builds
from fix_guests import BareGuest, stage_cache

from vcl_provision.channels.keys import KeyPair, new_host_key, new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.images.firstboot import FirstBoot

BOOT = 300.0
ROOT_PASSWORD, USER_PASSWORD = "known to this test only", "a secret of alice's"
UEFI = "/usr/share/OVMF/OVMF_CODE_4M.fd"
FIRST_BOOT = "#!/bin/sh\necho ran >> /var/lib/runs; users > /var/lib/users-then\n"
FIRST_LOGIN = '#!/bin/sh\nprintf "Your name? "; read -r name; echo "$name" > /tmp/said; echo "welcome, $name"\n'


class DiskGuest(BareGuest):
    """A guest that boots from its own disk, with an address of its own: nobody gives it a lease to be seen."""

    def _has_address(self) -> bool:
        assert self.alive, f"QEMU ended: {self.console_end()}"
        return "login:" in self.console_end()


@dataclass(frozen=True, kw_only=True)
class Built:
    """A guest that runs, and the build that it is of."""

    guest: BareGuest
    key: KeyPair
    image: Path
    folder: Path
    said: Mapping[str, object]

    def says(self, command: str) -> str:
        answer = self.guest.run(command, Patience(120))
        assert answer.status == 0, (command, answer)
        return answer.stdout.strip()


def options(folder: Path, key: KeyPair) -> list[str]:
    files = {
        "first-boot": FIRST_BOOT,
        "first-login": FIRST_LOGIN,
        "motd": "built here\n",
        "root.pub": key.public,
        "alice.pub": key.public,
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    (folder / "secret").write_text(USER_PASSWORD + "\n")
    return [
        *("--hostname", "web1", "--domain", "example.org", "--locale", "de_DE.UTF-8", "--timezone", "Europe/Berlin"),
        *("--keymap", "de", "--boot", "bios+uefi", "--root-size", "2G", "--swap-size", "64M", "--filesystem", "ext4"),
        *("--root-password", "env:SECRET_OF_ROOT", "--ssh-key", f"{folder}/root.pub", "--group", "lab=5000"),
        *("--user", "alice", "--full-name", "Alice Liddell", "--uid", "1234", "--user-group", "lab"),
        *("--password", f"file:{folder}/secret", "--ssh-user-key", f"{folder}/alice.pub"),
        *("--package", "sl", "--remove-package", "nano", "--copy", f"{folder}/motd:/etc/motd"),
        *("--first-boot", f"{folder}/first-boot", "--first-login", f"{folder}/first-login"),
        *("--ip", "10.0.2.15/24", "--gateway", "10.0.2.2", "--dns", "10.0.2.3", "--ip", "fec0::15/64"),
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    need_builds()
    folder, key = tmp_path_factory.mktemp("server"), new_key()
    image = folder / "web1"
    ran = vcl_here(
        ["build", "server", "--into", str(image), "--cache", str(stage_cache()), "--json", *options(folder, key)],
        SECRET_OF_ROOT=ROOT_PASSWORD,
    )
    assert ran.returncode == 0, ran.stderr
    with DiskGuest(image, folder / "run", None, key) as guest:
        (folder / "run").mkdir()
        # a disk larger than the one that was built: its last partition and file system are to fill it
        larger = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image / "disk.qcow2")
        subprocess.run((*larger, folder / "run/overlay.qcow2", "3G"), check=True)
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        yield Built(guest=guest, key=key, image=image, folder=folder, said=json.loads(ran.stdout))


def test_names_and_customs_are_as_they_were_given(server: Built) -> None:
    assert server.says("hostname; hostname -s; hostname -d").split() == ["web1.example.org", "web1", "example.org"]
    assert server.says("date +%Z") in {"CET", "CEST"}
    assert server.says("cat /etc/timezone; . /etc/default/locale; echo $LANG") == "Europe/Berlin\nde_DE.UTF-8"
    assert "de_DE.utf8" in server.says("locale -a")
    assert 'XKBLAYOUT="de"' in server.says("cat /etc/default/keyboard")
    assert server.says("cat /etc/motd") == "built here"


def test_accounts_are_as_they_were_given_and_passwords_nowhere_in_clear(server: Built) -> None:
    assert server.says("getent passwd alice") == "alice:x:1234:1234:Alice Liddell:/home/alice:/bin/bash"
    assert server.says("getent group lab") == "lab:x:5000:alice"
    server.guest.log_in("alice", USER_PASSWORD, Patience(120)).close()
    server.says("getent shadow root | grep -q 'root:[$]6[$]'")
    assert server.says("stat -c '%a %U' /home/alice/.ssh /home/alice/.ssh/authorized_keys") == "700 alice\n600 alice"
    beside = " ".join(
        path.read_text(errors="replace") for path in server.image.glob("*.*") if path.stat().st_size < 1 << 20
    )
    assert ROOT_PASSWORD not in beside
    assert USER_PASSWORD not in beside


def test_packages_are_those_that_the_list_beside_the_image_names(server: Built) -> None:
    inside = server.says("dpkg-query -W -f '${Package}\\t${Version}\\t${Architecture}\\n' | LC_ALL=C sort")
    assert inside.splitlines() == (server.image / "packages.txt").read_text().splitlines()
    names = {line.partition("\t")[0] for line in inside.splitlines()}
    assert "sl" in names
    assert "nano" not in names
    assert server.says("uname -r").endswith("-cloud-amd64")


def test_the_network_is_as_it_was_given(server: Built) -> None:
    assert "inet 10.0.2.15/24" in server.says("ip -o -4 address show dev $(ls /sys/class/net | grep -v lo)")
    assert "fec0::15/64" in server.says("ip -o -6 address show")
    assert "via 10.0.2.2" in server.says("ip route show default")


def test_the_root_fills_a_larger_disk_and_swap_is_on(server: Built) -> None:
    assert int(server.says("df --output=size -BM / | tail -n 1").rstrip("M")) > 2500
    assert "partition" in server.says("cat /proc/swaps")


def test_nothing_of_the_build_is_left_and_the_system_is_content(server: Built) -> None:
    assert server.says("systemctl is-system-running --wait || systemctl --failed --no-legend") == "running"
    assert server.says("ls /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/99mmdebstrap 2>/dev/null || true") == ""
    assert len(server.says("cat /etc/machine-id")) == 32
    assert server.says("ls /etc/ssh/ssh_host_*.pub") == "/etc/ssh/ssh_host_ed25519_key.pub"


def test_a_privileged_command_runs_inside_and_its_status_comes_back(server: Built) -> None:
    assert server.guest.run("dpkg --configure -a && apt-get check -q", Patience(120)).status == 0
    assert server.guest.run("apt-get install -q -y no-such-package", Patience(120)).status == 100


def test_the_first_login_script_asks_the_first_to_log_in_and_nobody_else(server: Built) -> None:
    assert "Your name?" in _talk(server.guest, "Alice\n", until="welcome, Alice")
    assert server.says("cat /tmp/said; stat -c %U /tmp/said") == "Alice\nalice"
    assert "Your name?" not in _talk(server.guest, 'echo see""n\n', until="seen\n")


def _talk(guest: BareGuest, typed: str, *, until: str) -> str:
    transport = guest.log_in("alice", USER_PASSWORD, Patience(120))
    channel = transport.open_session(timeout=60)
    channel.get_pty()
    channel.invoke_shell()
    channel.send(typed.encode())
    heard, ends = "", time.monotonic() + 60
    while until not in heard.replace("\r", "") and time.monotonic() < ends:
        heard += channel.recv(4096).decode(errors="replace")
    transport.close()
    return heard.replace("\r", "")


def test_the_same_disk_boots_under_uefi_and_what_runs_once_has_run_once(server: Built) -> None:
    """The last one: the guest is another one afterwards."""
    assert server.says("cat /var/lib/runs; cat /var/lib/users-then") == "ran"
    server.says("sync")
    server.guest.stop()
    firmware = ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={UEFI}")
    again = DiskGuest(server.image, server.folder / "run", None, server.key, carriers=firmware)
    again.console.unlink()
    with again:
        again.start()
        again.wait_until_usable(Patience(BOOT))
        assert (
            again.run("ls -d /sys/firmware/efi; cat /var/lib/runs", Patience(120)).stdout == "/sys/firmware/efi\nran\n"
        )


def test_a_minimal_guest_is_what_a_management_node_expects(tmp_path: Path) -> None:
    need_builds()
    ran = vcl_here(["build", "minimal", "--into", str(tmp_path / "minimal"), "--cache", str(stage_cache()), "--json"])
    assert ran.returncode == 0, ran.stderr
    management, host = new_key(), new_host_key()
    told = FirstBoot(
        instance="first",
        hostname="vm1.lab",
        host_key=host.public,
        host_key_private=host.private,
        management_keys=[management.public],
    )
    with BareGuest(tmp_path / "minimal", tmp_path / "run", told, management) as guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        assert guest.run("hostname", Patience(60)).stdout == "vm1.lab\n"
        with pytest.raises(paramiko.AuthenticationException):
            guest.log_in("root", "", Patience(60))


def test_another_distribution_keeps_the_same_promises(tmp_path: Path) -> None:
    """busybox as init: no systemd, no apt, no udev in the guest."""
    need_builds()
    key = new_key()
    (tmp_path / "root.pub").write_text(key.public)
    (tmp_path / "once").write_text("#!/bin/sh\necho ran >> /var/lib/runs\n")
    words = ["--ip", "10.0.2.15/24", "--gateway", "10.0.2.2", "--ssh-key", f"{tmp_path}/root.pub"]
    image = tmp_path / "small"
    where = ["--into", str(image), "--cache", str(stage_cache()), "--first-boot", f"{tmp_path}/once", "--user", "bob"]
    ran = vcl_here(["build", "small", *where, *words])
    assert ran.returncode == 0, ran.stderr
    guest = DiskGuest(image, tmp_path / "run", None, key)
    for _ in range(2):
        with guest:
            guest.start()
            guest.wait_until_usable(Patience(BOOT))
            assert guest.run("cat /var/lib/runs; id -un bob; sync", Patience(60)).stdout == "ran\nbob\n"
            assert "default via 10.0.2.2" in guest.run("ip route", Patience(60)).stdout
            (tmp_path / "run/console.log").unlink()


OWN = (
    *("/etc/ssl/private/ssl-cert-snakeoil.key", "/etc/ssl/certs/ssl-cert-snakeoil.pem"),
    *("/etc/iscsi/initiatorname.iscsi", "/etc/nvme/hostnqn", "/etc/nvme/hostid"),
)
"""What these packages make when they are installed, and no two machines may share."""


def test_keys_that_packages_make_are_in_no_image_and_each_machines_own(tmp_path: Path) -> None:
    """Two clones, then one of them again: the same disk, and then told that it is another machine now."""
    need_builds()
    words = [word for name in ("ssl-cert", "open-iscsi", "nvme-cli") for word in ("--package", name)]
    words += ["--format", "qcow2", "--format", "raw", "--into", str(tmp_path / "small")]
    ran = vcl_here(["build", "small", "--cache", str(stage_cache()), *words])
    assert ran.returncode == 0, ran.stderr
    assert [name for name in OWN if listed(tmp_path / "small/disk.raw", name)] == []
    machines = Machines(tmp_path, new_key(), new_host_key())
    first, second = machines.own("vm1", "vm1"), machines.own("vm2", "vm2")
    assert all(mine and mine != others for mine, others in zip(first, second, strict=True)), (first, second)
    assert machines.own("vm1", "vm1") == first
    third = machines.own("vm1", "vm3")
    assert all(mine and mine != others for mine, others in zip(third, first, strict=True)), (third, first)


@dataclass(frozen=True)
class Machines:
    """Clones of the image `small` in the folder, each with its disk."""

    folder: Path
    management: KeyPair
    host: KeyPair

    def own(self, disk: str, instance: str) -> list[str]:
        """What a machine with that disk has, told that it is that instance. Its certificate bears its name."""
        told = FirstBoot(
            instance=instance,
            hostname=instance,
            host_key=self.host.public,
            host_key_private=self.host.private,
            management_keys=[self.management.public],
        )
        with BareGuest(self.folder / "small", self.folder / disk, told, self.management) as guest:
            guest.start()
            guest.wait_until_usable(Patience(BOOT))
            subject = guest.run(f"openssl x509 -noout -subject -in {OWN[1]}", Patience(60))
            assert subject.stdout == f"subject=CN = {instance}\n", subject
            own = [guest.run(f"cat {name}", Patience(60)).stdout for name in OWN]
            guest.run("sync", Patience(60))
        return own


def test_a_guest_lives_on_another_file_system(tmp_path: Path) -> None:
    """Its driver is none of the kernel's own: the first ram disk brings it. xfs: `make test-profiles`."""
    need_builds()
    key = new_key()
    (tmp_path / "root.pub").write_text(key.public)
    words = ["--filesystem", "btrfs", "--root-size", "512M", "--ssh-key", f"{tmp_path}/root.pub"]
    ran = vcl_here(["build", "small", "--into", str(tmp_path / "small"), "--cache", str(stage_cache()), *words])
    assert ran.returncode == 0, ran.stderr
    with BareGuest(tmp_path / "small", tmp_path / "run", None, key) as guest:
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        told = guest.run("stat -f -c %T / && : > /written", Patience(60))
        assert (told.status, told.stdout) == (0, "btrfs\n"), told
