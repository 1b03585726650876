"""The gate's rules with each of the two filters, in a network namespace in place of a guest: cheap, and the same kernel
that a guest has."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from a_module import files_of
from a_need import PLACES, need, need_root
from a_subnet import a_subnet
from fix_guest_lan import DIES_WITH_US, ip, lets_in, remove_leftovers, shuts_out

OURS, THEIRS = "vclgo", "vclgi"
LISTENER = """
import socket, sys
servers = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in (22, 8023)]
print("listening", flush=True)
sys.stdin.read()
"""
FILTERS = {"nft": ("nft",), "iptables": ("iptables", "iptables-restore", "ip6tables", "ip6tables-restore")}


@dataclass(frozen=True, kw_only=True)
class Box:
    """A namespace with one card; `sides` are addresses of ours on the other end of it, (IPv4, IPv6) by name."""

    pid: int
    bin: Path
    folder: Path
    inside: tuple[str, str]
    management: tuple[str, str]
    user: tuple[str, str]
    stranger: tuple[str, str]

    def gate(self, *arguments: str, manager: str = "") -> subprocess.CompletedProcess[str]:
        """Runs the script as the channel would, by the filter that there is."""
        came = f"{manager or self.management[0]} 50000 {self.inside[0]} 22"
        return self.run(files_of("os", "linux")["scripts"].script("access"), *arguments, came=came)

    def run(self, script: str, *arguments: str, came: str = "") -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "--target", str(self.pid), "--net", "--mount", "--"]
        argv = [*enter, "env", "-i", f"PATH={self.bin}", f"SSH_CONNECTION={came}", shutil.which("sh") or "", "-c"]
        return subprocess.run([*argv, script, "vcl", *arguments], check=False, capture_output=True, text=True)

    def lets_in(self, side: str, family: int = 0, port: int = 22) -> bool:
        return lets_in(ip_address(self.inside[family]), port, source=self._address(side, family))

    def shuts_out(self, side: str, family: int = 0, port: int = 22) -> bool:
        return shuts_out(ip_address(self.inside[family]), port, source=self._address(side, family), seconds=0.5)

    def _address(self, side: str, family: int) -> IPv4Address | IPv6Address:
        ours: tuple[str, str] = getattr(self, side)
        return ip_address(ours[family])


@pytest.fixture(params=list(FILTERS))
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    need_root()
    need("nft", "iptables", "unshare", "nsenter", "ip", "setpriv", "ss")
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in (*FILTERS[request.param], "ss", "rm", "cat"):
        found = shutil.which(program, path=PLACES)
        assert found
        (programs / program).symlink_to(found)
    with a_subnet() as number, a_namespace(number) as (pid, sides):
        yield Box(pid=pid, bin=programs, folder=tmp_path, **sides)


@contextmanager
def a_namespace(number: int) -> Generator[tuple[int, dict[str, tuple[str, str]]]]:
    """A process in a namespace of its own, that listens; with a /run of its own, where the script keeps what it did."""
    four, six = f"10.113.{number}", f"fd76:636d:{number:x}:"
    last = {"management": 1, "user": 2, "stranger": 3, "inside": 10}
    sides = {name: (f"{four}.{at}", f"{six}:{at:x}") for name, at in last.items()}
    remove_leftovers(OURS, THEIRS)
    argv = ["unshare", "--net", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]
    python = shutil.which("python3") or ""
    with subprocess.Popen(
        [*DIES_WITH_US, *argv, python, "-c", LISTENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"listening\n"
            _wire(process.pid, sides)
            yield process.pid, sides
        finally:
            process.kill()
            remove_leftovers(OURS, THEIRS)


def _wire(pid: int, sides: dict[str, tuple[str, str]]) -> None:
    ours, theirs = f"{OURS}{os.getpid()}", f"{THEIRS}{os.getpid()}"
    ip("link", "add", ours, "type", "veth", "peer", "name", theirs)
    ip("link", "set", theirs, "netns", str(pid))
    for name, (four, six) in sides.items():
        enter = ["nsenter", "--target", str(pid), "--net", "--"] if name == "inside" else []
        card = theirs if name == "inside" else ours
        subprocess.run([*enter, "ip", "addr", "add", f"{four}/24", "dev", card], check=True)
        subprocess.run([*enter, "ip", "addr", "add", f"{six}/64", "dev", card, "nodad"], check=True)
        for link in ("lo", card) if enter else (card,):
            subprocess.run([*enter, "ip", "link", "set", link, "up"], check=True)


def test_closed_means_all_but_the_management_node(box: Box) -> None:
    assert all(box.lets_in("user", family) for family in (0, 1))
    for _ in range(2):
        assert box.gate().returncode == 0
    assert all(box.shuts_out(side, family) for side in ("user", "stranger") for family in (0, 1))
    assert box.lets_in("management")
    assert box.shuts_out("management", 1)


def test_the_management_node_may_come_over_ipv6(box: Box) -> None:
    box.gate(manager=box.management[1])
    assert box.lets_in("management", 1)
    assert box.shuts_out("management")


@pytest.mark.parametrize("family", [0, 1])
def test_one_address_and_its_ports_are_open(box: Box, family: int) -> None:
    box.gate(box.user[family], "tcp:22", "udp:3389")
    assert box.lets_in("user", family)
    assert box.shuts_out("user", 1 - family)
    assert box.shuts_out("stranger", family)
    assert box.shuts_out("user", family, port=8023)


def test_who_was_let_in_before_is_cut_off_also_when_connected(box: Box) -> None:
    box.gate(box.user[0], "tcp:22")
    with socket.create_connection((box.inside[0], 22), timeout=5, source_address=(box.user[0], 0)) as connection:
        assert "ESTAB" in box.run("ss -Htn state all sport = :22").stdout
        box.gate(box.stranger[0], "tcp:22")
        assert "ESTAB" not in box.run("ss -Htn state all sport = :22").stdout
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert box.shuts_out("user")
    assert box.lets_in("stranger")


def test_what_the_machine_asks_for_itself_is_answered(box: Box) -> None:
    box.gate()
    with socket.create_server((box.stranger[0], 0)) as server:
        server.settimeout(20)
        there = f"/dev/tcp/{box.stranger[0]}/{server.getsockname()[1]}"
        ask = f'exec 3<>{there}; echo asked >&3; read -r line <&3; echo "$line"'
        enter = ["nsenter", "--target", str(box.pid), "--net", "--", "bash", "-c", ask]
        with subprocess.Popen(enter, stdout=subprocess.PIPE) as asking:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"answered\n")
                assert asking.communicate(timeout=20)[0] == b"answered\n"


def test_a_machine_without_any_filter_is_refused(box: Box) -> None:
    for program in ("nft", "iptables-restore"):
        (box.bin / program).unlink(missing_ok=True)
    refused = box.gate()
    assert refused.returncode == 65
    assert refused.stderr == "the image can close no port: it has neither nftables nor iptables that work\n"


def test_what_an_image_filters_itself_stays(box: Box) -> None:
    own = "nft add table inet own" if (box.bin / "nft").exists() else "iptables -A INPUT -s 192.0.2.1 -j DROP"
    box.run(own)
    box.gate(box.user[0], "tcp:22")
    scripts = files_of("os", "linux")["scripts"]
    listing = "nft list tables" if (box.bin / "nft").exists() else "iptables -S"
    assert "vcl" in box.run(listing).stdout
    box.run("\n".join((scripts.FOLDER / f"{part}.sh").read_text() for part in ("common", "gate")) + "\nungate\n")
    left = box.run(listing).stdout
    assert "vcl" not in left
    assert "own" in left or "192.0.2.1" in left
