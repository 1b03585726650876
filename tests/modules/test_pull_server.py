"""The server from which machines fetch what they are told: real connections, the guests' own script at their end."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import cast

import pytest
import structlog
from a_firstboot import FIRSTBOOT, HASH
from a_lab import a_lab
from a_pull import Heard, MemoryOffers, OfferedInMemory

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon import pull
from vcl_provision.daemon.pull import FROM_ONE_ADDRESS, KeptOffers, OfferedByHttp, PullServer, journalled
from vcl_provision.daemon.scribe import Scribe
from vcl_provision.drivers.task import NoPull
from vcl_provision.images.builder.trees import GUEST_TREES
from vcl_provision.images.carriers.plain import plain_files, read_bootparams_conf
from vcl_provision.model.faults import Refused, SettingsError
from vcl_provision.model.lab import Computer
from vcl_provision.model.states import ComputerKind, ComputerState
from vcl_provision.store.database import Connection, Database

FETCH = GUEST_TREES / "common/usr/lib/vcl/fetch"
MAC = "52:54:00:aa:bb:0c"


@dataclass
class Served:
    """A server, and what it said of those who came."""

    offers: MemoryOffers = field(default_factory=MemoryOffers)
    heard: Heard = field(default_factory=Heard)

    def __post_init__(self) -> None:
        self.server = PullServer("127.0.0.1:0", self.offers, hear=self.heard)
        self.base = f"http://{self.server.address}"

    def offer(self, computer: Computer) -> str:
        offered = OfferedInMemory(offers=self.offers, base=self.base)
        return offered.offer(computer, FIRSTBOOT, mac=MAC, patience=Patience(5))


@pytest.fixture(scope="module")
def one_server() -> Iterator[Served]:
    made = Served()
    made.server.start()
    yield made
    made.server.stop()


@pytest.fixture
def served(one_server: Served) -> Served:
    one_server.heard.answers.clear()
    return one_server


@pytest.fixture
def computer() -> Computer:
    return a_computer()


def a_computer(number: int = 7) -> Computer:
    return Computer(
        id=number,
        name="vm7",
        kind=ComputerKind.VIRTUALMACHINE,
        state=ComputerState.RELOADING,
        provisioning_module="sim",
        private_address=ip_address("127.0.0.1"),
    )


def fetch(url: str, document: str) -> subprocess.CompletedProcess[str]:
    """As a guest does it."""
    where, _, path = url.removeprefix("http://").partition("/")
    argv = ["bash", FETCH, where, f"/{path}{document}"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


def test_a_guest_fetches_all_of_it_and_only_once(served: Served, computer: Computer) -> None:
    url = served.offer(computer)
    first, second = fetch(url, "bootparams.conf"), fetch(url, "bootparams.conf")
    assert (first.returncode, read_bootparams_conf(first.stdout)) == (0, plain_files(FIRSTBOOT))
    assert (second.returncode, second.stdout) == (3, "")
    assert served.heard.said == ["fetched bootparams.conf", "was refused: its token was used before"]


def test_many_who_ask_at_once_get_it_once(served: Served, computer: Computer) -> None:
    url = served.offer(computer)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(fetch, [url] * 12, ["bootparams.conf"] * 12))
    assert sum(HASH in answer.stdout for answer in answers) == 1
    assert sum(answer.returncode == 0 for answer in answers) == 1


def test_a_new_offer_is_another_address(served: Served, computer: Computer) -> None:
    assert served.offer(computer) != served.offer(computer)


def test_what_one_machine_holds_open_keeps_no_other_out(served: Served, computer: Computer) -> None:
    host, _, port = served.server.address.partition(":")
    with ExitStack() as held:
        for _ in range(FROM_ONE_ADDRESS):
            held.enter_context(socket.create_connection((host, int(port)), source_address=("127.0.0.2", 0)))
        refused = held.enter_context(socket.create_connection((host, int(port)), source_address=("127.0.0.2", 0)))
        refused.settimeout(10)
        assert refused.recv(1) == b""
        assert fetch(served.offer(computer), "bootparams.conf").returncode == 0


def test_whoever_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(pull.Request, "timeout", 0.1)
    host, _, port = served.server.address.partition(":")
    with socket.create_connection((host, int(port))) as silent:
        silent.settimeout(10)
        assert silent.recv(1) == b""


@pytest.mark.parametrize("said", [b"\x00\xff\r\n\r\n", b"POST / HTTP/1.0\r\n\r\n", b"GET " + b"a" * 70_000, b""])
def test_whatever_else_is_said_breaks_nothing(served: Served, computer: Computer, said: bytes) -> None:
    host, _, port = served.server.address.partition(":")
    with socket.create_connection((host, int(port))) as strange:
        strange.settimeout(10)
        strange.sendall(said)
        strange.shutdown(socket.SHUT_WR)
        strange.recv(100)
    assert fetch(served.offer(computer), "bootparams.conf").returncode == 0


def test_an_address_that_is_not_ours_is_said_to_be_so(served: Served) -> None:
    for listen in ("192.0.2.1:0", served.server.address, "127.0.0.1:99999"):
        with pytest.raises(SettingsError, match=r"\[firstboot\] pull_listen"):
            PullServer(listen, MemoryOffers(), hear=Heard())


def test_half_an_answer_is_none() -> None:
    """The connection breaks in the middle: the machine is told nothing, rather than something that is not so."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        fetched = pool.submit(fetch, f"http://127.0.0.1:{server.getsockname()[1]}/", "bootparams.conf")
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 40\r\n\r\nvcl/instance='x'\n")
        assert (fetched.result().returncode, fetched.result().stdout) == (2, "")


# With the database


@pytest.fixture
def kept(conn: Connection, database: Database) -> Generator[tuple[PullServer, OfferedByHttp, Scribe]]:
    """As the daemon has it."""
    a_lab(conn)
    scribe = Scribe(database)
    scribe.start()
    server = PullServer("127.0.0.1:0", KeptOffers(database=database), hear=partial(journalled, scribe))
    server.start()
    yield server, OfferedByHttp(database=database, base=f"http://{server.address}", seconds=60), scribe
    server.stop()


def test_what_was_fetched_and_refused_is_in_the_journal(
    conn: Connection, kept: tuple[PullServer, OfferedByHttp, Scribe]
) -> None:
    _, offered, scribe = kept
    (number,) = cast(tuple[int], conn.execute("SELECT min(id) FROM vcl.computer").fetchone())
    url = offered.offer(a_computer(number), FIRSTBOOT, mac=MAC, patience=Patience(10))
    with structlog.testing.capture_logs() as logs:
        assert fetch(url, "bootparams.conf").returncode == 0
        assert fetch(url, "user-data").returncode == 3
        assert fetch(url.replace(MAC, "52:54:00:00:00:00"), "user-data").returncode == 3
    scribe.stop()
    written = conn.execute("SELECT said FROM vcl.journal WHERE computer_id = %s ORDER BY id", [number]).fetchall()
    assert [row[0] for row in written] == [
        f"127.0.0.1 ({MAC}) fetched bootparams.conf",
        f"127.0.0.1 ({MAC}) was refused: its token was used before",
        f"127.0.0.1 (52:54:00:00:00:00) was refused: its token is another machine's, {MAC}",
    ]
    asked = [line["log_level"] for line in logs if line["event"] == "first_boot.asked"]
    assert asked == ["info", "warning", "warning"]
    token = url.split("/")[-2]
    assert token not in str(logs) + str(written)


def test_an_offer_outlives_the_daemon_that_made_it(
    conn: Connection, database: Database, kept: tuple[PullServer, OfferedByHttp, Scribe]
) -> None:
    """Made by one, answered by another: what is needed stands in the database, and only the machine can open it."""
    first, offered, _ = kept
    (number,) = cast(tuple[int], conn.execute("SELECT min(id) FROM vcl.computer").fetchone())
    url = offered.offer(a_computer(number), FIRSTBOOT, mac=MAC, patience=Patience(10))
    first.stop()
    second = PullServer("127.0.0.1:0", KeptOffers(database=database), hear=Heard())
    second.start()
    try:
        assert fetch(url.replace(first.address, second.address), "bootparams.conf").returncode == 0
    finally:
        second.stop()


def test_a_database_that_is_away_is_no_refusal(served: Served) -> None:
    away = Database("host=127.0.0.1 port=1 connect_timeout=1", patience=0.1)
    server = PullServer("127.0.0.1:0", KeptOffers(database=away), hear=Heard())
    server.start()
    try:
        url = f"http://{server.address}/first-boot/{MAC}/{'A' * 43}/"
        assert fetch(url, "bootparams.conf").returncode == 2
    finally:
        server.stop()
        away.close()


def test_a_node_that_offers_nothing_says_which_setting_it_lacks(computer: Computer) -> None:
    with pytest.raises(Refused) as refusal:
        NoPull().offer(computer, FIRSTBOOT, mac=MAC, patience=Patience(5))
    assert "pull_listen" in refusal.value.hint
