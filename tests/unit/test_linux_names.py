"""What the Linux module takes for names, keys and ports, and what it reads from the kernel's lists."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from types import ModuleType

import pytest
from a_module import files_of

from vcl_provision.channels.keys import new_key
from vcl_provision.drivers import ConnectMethod, ConnectPort, Refused, Secret, User, password_hash

SSH = ConnectMethod(name="ssh", service="ssh", ports=[ConnectPort(protocol="tcp", port=22)])
RDP = ConnectMethod(
    name="RDP",
    service="xrdp",
    ports=[ConnectPort(protocol="TCP", port=3389), ConnectPort(protocol="udp", port=3389)],
)


@pytest.fixture(scope="module")
def names() -> ModuleType:
    return files_of("os", "linux")["names"]


@pytest.fixture(scope="module")
def sockets() -> ModuleType:
    return files_of("os", "linux")["sockets"]


def a_user(name: str) -> User:
    return User(id=1, name=name, affiliation="Local")


@pytest.mark.parametrize("name", ["alice", "_a", "A.Student-2", "a" * 32])
def test_what_useradd_takes_is_taken(names: ModuleType, name: str) -> None:
    assert names.user_name(a_user(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "..", "-rf", "1alice", "alice bob", "alice\n", "a" * 33, "a" * 200),
        *("$(reboot)", "`id`", "alice;id", "a|b", "a&b", "a>b", "a'b", 'a"b', "a\\b", "a*", "~root"),
        *("'; DROP TABLE request; --", "alice' OR '1'='1", "root:x:0:0", "a/b", "../etc", "alice@example.org"),
        *("ålice", "alice\0", "\u202ealice", "alice\u200b"),
    ],
)
def test_what_useradd_would_not_take_is_refused(names: ModuleType, name: str) -> None:
    with pytest.raises(Refused, match="a user cannot be named") as refused:
        names.user_name(a_user(name))
    assert len(refused.value.said) < 120
    assert "at most 32" in refused.value.hint


@pytest.mark.parametrize("name", ["", "-a", "a b", "a\n127.0.0.1 b", "a" * 65, "a."])
def test_a_host_name_that_a_machine_cannot_have_is_refused(names: ModuleType, name: str) -> None:
    with pytest.raises(Refused, match="a machine cannot be named"):
        names.host_name(name)


def test_a_public_key_is_taken_with_its_comment(names: ModuleType) -> None:
    line = new_key().public
    assert names.key_line(line) == line
    assert names.key_line(f"  {line}   alice at home \n") == f"{line} alice at home"


def test_a_line_that_is_no_public_key_is_refused(names: ModuleType) -> None:
    good = new_key().public
    kind, blob = good.split()
    for line in (
        *("", "ssh-ed25519", "not a key", f"{kind} {blob[:-8]}****", f"{kind} {blob[:20]}", f"ssh-rsa {blob}"),
        *(f"ssh-dss {blob}", f"{good}\n{good}", f"{good} a\x1b[31m", f'command="id" {good}', f"# {good}"),
        *(new_key().private.reveal(), f"{kind} ä{blob}", "ssh-rsa AAAAB3NzaC1yc2E="),
    ):
        with pytest.raises(Refused, match="this is no public ssh key"):
            names.key_line(line)


def test_the_gate_is_told_address_and_ports(names: ModuleType) -> None:
    told = names.gate_arguments(IPv6Address("::ffff:192.0.2.7"), (SSH, RDP, SSH))
    assert told == ["192.0.2.7", "tcp:22", "tcp:3389", "udp:3389"]


@pytest.mark.parametrize(
    ("protocol", "port"), [("tcp", 0), ("tcp", 65536), ("tcp", -1), ("sctp", 22), ("tcp dport 22 accept\n", 22)]
)
def test_a_port_that_is_none_is_refused(names: ModuleType, protocol: str, port: int) -> None:
    method = ConnectMethod(name="odd", ports=[ConnectPort(protocol=protocol, port=port)])
    with pytest.raises(Refused, match="a connect method cannot use"):
        names.gate_arguments(IPv4Address("192.0.2.7"), (method,))


def test_an_image_that_nobody_could_connect_to_is_refused(names: ModuleType) -> None:
    with pytest.raises(Refused, match="no connect method"):
        names.gate_arguments(IPv4Address("192.0.2.7"), ())


def test_services_other_than_ssh_are_started(names: ModuleType) -> None:
    assert names.services((SSH, RDP)) == "xrdp"


@pytest.mark.parametrize("service", ["-a", "a b", "$(id)", "a;b"])
def test_a_service_that_is_none_is_refused(names: ModuleType, service: str) -> None:
    with pytest.raises(Refused, match="a service cannot be named"):
        names.services((ConnectMethod(name="odd", service=service),))


LISTED = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 24 1 0 100 0 0 10 0
   1: 0A01D50A:0016 0201D50A:C350 01 00000000:00000000 02:000A7FB5 00000000     0        0 31 2 0 20 4 29 10 -1
   2: 0A01D50A:0016 0301D50A:C351 06 00000000:00000000 03:000017A0 00000000     0        0 0 3 0
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 6C6376FD00000000000000000A000000:0D3D 6C6376FD000000000000000002000000:9C40 01 00000000:00000000 02:0 0
   1: 0000000000000000FFFF00000A01D50A:0016 0000000000000000FFFF00000201D50A:9C41 01 00000000:00000000 02:0 0
"""


def test_the_kernel_lists_who_is_connected(sockets: ModuleType) -> None:
    found = [(peer.address, peer.port, peer.to_port) for peer in sockets.peers(LISTED)]
    assert found == [
        (ip_address("10.213.1.2"), 50000, 22),
        (ip_address("fd76:636c::2"), 40000, 3389),
        (ip_address("10.213.1.2"), 40001, 22),
    ]


def test_a_password_is_hashed_as_guests_keep_it() -> None:
    one, other = password_hash(Secret("secret")), password_hash(Secret("secret"))
    assert one.reveal().startswith("$6$")
    assert one != other
    assert "secret" not in one.reveal()
    assert str(one) == "***"
