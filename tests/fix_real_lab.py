"""A whole lab for real: PostgreSQL, the real `vcld`, a private libvirt, the small guest, a user with an ssh client."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from a_person import Person, a_person
from fix_daemon import Node
from fix_libvirt import LibvirtBench

from vcl_provision.drivers import LocalLab, VmProfile
from vcl_provision.store import catalogue
from vcl_provision.store.database import Connection

SLOT = 2
"""Which of the lab's slots is the computer; the first stands loaded for other tests."""


@dataclass(frozen=True, kw_only=True)
class RealLab:
    """One computer, one image, one user, who comes from `home`: an address of theirs on the lab's bridge."""

    conn: Connection
    node: Node
    bench: LibvirtBench
    alice: Person
    home: str
    image: str = "small"

    @property
    def computer(self) -> str:
        return self.bench.lab.slots[SLOT].name

    def reserve(self) -> int:
        """A request of hers, acknowledged at once."""
        question = (
            "INSERT INTO request (user_id, image_id, remote_address) "
            "VALUES (user_named('alice'), image_named(%s), %s) RETURNING id"
        )
        return self.conn.execute(question, [self.image, self.home]).fetchall()[0][0]

    def end(self, request: int) -> None:
        self.conn.execute("UPDATE request SET state = 'deleted' WHERE id = %s", [request])

    def status(self, request: int) -> tuple[Any, ...]:
        """(state, connect, fault), as everybody sees them."""
        question = "SELECT state, connect, fault FROM request_status WHERE id = %s"
        return self.conn.execute(question, [request]).fetchall()[0]

    def until(self, ask: Callable[[], Any], what: str, seconds: float = 120) -> Any:
        """Until the answer is true; it."""
        ends = time.monotonic() + seconds
        while not (answer := ask()):
            assert time.monotonic() < ends, f"not in {seconds} s: {what}; {self.node.log.read_text()[-2000:]}"
            time.sleep(0.05)
        return answer

    def until_open(self, request: int) -> None:
        """Until the machine is open for her. Fails at once if the request does."""

        def is_open() -> bool:
            state, connect, fault = self.status(request)
            assert state != "failed", fault
            return connect is not None

        self.until(is_open, f"request {request} open for its user")

    def ssh(self, command: str, *, source: str = "") -> subprocess.CompletedProcess[str]:
        """A command of hers on the machine, from `home` or another address."""
        address = self.bench.lab.slots[SLOT].private_address
        patience = f"ConnectTimeout={2 if source else 20}"
        argv = self.alice.client(address, command, "-b", source or self.home, "-o", patience)
        return subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@contextmanager
def a_real_lab(
    conn: Connection, dsn: str, bench: LibvirtBench, folder: Path, *, image: str = "small", ram_mb: int = 192
) -> Generator[RealLab]:
    """The daemon is not yet started. All of it is gone afterwards, but the libvirt."""
    lab = bench.lab
    alice = a_person(folder, "alice")
    _furnish(conn, lab, alice, image, ram_mb)
    tables: dict[str, Any] = {
        "node": {"name": "real"},
        "database": {"dsn": dsn},
        "ssh": {"key": folder / "id_ed25519"},
        "work": {"lease": 6, "tick": 1, "drain": 5},
    }
    node = Node(name="real", folder=folder, tables=tables)
    home, other = (str(ip_address(lab.slots[0].private_address) + more) for more in (180, 181))
    for address in (home, other):
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", lab.network], check=True)
    try:
        yield RealLab(conn=conn, node=node, bench=bench, alice=alice, home=home, image=image)
    finally:
        node.kill() if node.lives else None
        node.close()
        for address in (home, other):
            subprocess.run(["ip", "address", "del", f"{address}/32", "dev", lab.network], check=False)


@pytest.fixture
def real_lab(conn: Connection, dsn: str, libvirt_bench: LibvirtBench, tmp_path: Path) -> Generator[RealLab]:
    """With the small guest."""
    with a_real_lab(conn, dsn, libvirt_bench, tmp_path) as lab:
        yield lab


def _furnish(conn: Connection, lab: LocalLab, alice: Person, image: str, ram_mb: int) -> None:
    profile = VmProfile(
        name="local",
        repository_path=lab.repository_path,
        datastore_path=lab.datastore_path,
        vm_path=lab.vm_path,
        network=lab.network,
        overrides=lab.overrides,
    )
    catalogue.put_host(
        conn, name="here", address=lab.host_address, module="libvirt", profile=profile, install_types=["qcow2"]
    )
    slot = lab.slots[SLOT]
    catalogue.put_computer(
        conn,
        catalogue.NewComputer(
            name=slot.name,
            host="here",
            module="libvirt",
            private_address=slot.private_address,
            mac=slot.mac,
            ram_mb=ram_mb,
        ),
    )
    catalogue.put_image(
        conn,
        catalogue.NewImage(
            name=image,
            revision=1,
            revision_name=f"{image}-v1",
            os=image,
            os_module="linux",
            install_type="qcow2",
            min_ram_mb=128,
            root_access=True,
        ),
    )
    catalogue.put_user(conn, "alice", keys=list(alice.user.keys))
