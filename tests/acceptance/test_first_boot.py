"""Machines fetch what they are told from the real daemon."""

from __future__ import annotations

import json
import socket
from ipaddress import ip_address
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from a_firstboot import FIRSTBOOT
from fix_daemon import DaemonLab

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.pull import OfferedByHttp
from vcl_provision.images.carriers.plain import plain_files, read_bootparams_conf
from vcl_provision.model.lab import Computer
from vcl_provision.model.states import ComputerKind, ComputerState
from vcl_provision.store.database import Database

MAC = "52:54:00:aa:bb:0c"


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def offered(dlab: DaemonLab, address: str) -> str:
    """As a module does it while it loads the lab's first computer."""
    computer = Computer(
        id=dlab.lab.computers[0],
        name="vcl-1",
        kind=ComputerKind.VIRTUALMACHINE,
        state=ComputerState.RELOADING,
        provisioning_module="sim",
        private_address=ip_address("127.0.0.1"),
    )
    database = Database(dlab.dsn, max_size=2)
    try:
        port = OfferedByHttp(database=database, base=f"http://{address}", seconds=60)
        return port.offer(computer, FIRSTBOOT, mac=MAC, patience=Patience(10))
    finally:
        database.close()


def test_what_a_machine_is_to_fetch_outlives_the_daemon(dlab: DaemonLab) -> None:
    address = free_address()
    node = dlab.node(firstboot={"pull_listen": address}).start()
    url = offered(dlab, address)
    node.kill()
    node.start()
    with urlopen(f"{url}bootparams.conf", timeout=10) as answer:
        assert read_bootparams_conf(answer.read().decode()) == plain_files(FIRSTBOOT)
    with pytest.raises(HTTPError, match="403"):
        urlopen(f"{url}bootparams.conf", timeout=10)
    assert [line["level"] for line in node.said("first_boot.asked")] == ["info", "warning"]
    dlab.until(lambda: notes(dlab) == 2, "the journal to have both")
    assert url.split("/")[-2] not in json.dumps(node.lines())
    assert node.stop() == 0


def notes(dlab: DaemonLab) -> int:
    return int(dlab.one("SELECT count(*) FROM journal WHERE computer_id = %s", dlab.lab.computers[0]))


def test_a_place_that_is_taken_is_said_at_the_start(dlab: DaemonLab) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        node = dlab.node(firstboot={"pull_listen": address})
        node.begin()
        assert node.ended() != 0
    assert f"[firstboot] pull_listen: cannot listen on '{address}'" in node.log.read_text()
    assert "Traceback" not in node.log.read_text()
