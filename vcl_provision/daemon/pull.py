"""Machines that fetch what they are told: a small HTTP server, and the port through which modules offer it."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from logging import DEBUG, ERROR, INFO, WARNING
from socketserver import ThreadingMixIn
from typing import Any

import structlog

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.scribe import Scribe
from vcl_provision.images.carriers.pull import Answer, Offer, Offers, OfferState, answer, new_offer, pull_url
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.faults import SettingsError
from vcl_provision.model.lab import Computer
from vcl_provision.store import firstboot_tokens
from vcl_provision.store.database import Database, DatabaseAway
from vcl_provision.store.journal import Line

log = structlog.get_logger(__name__)

AT_ONCE, FROM_ONE_ADDRESS = 32, 2
"""Connections at a time. A machine needs one: what one of them opens beyond two is closed, and harms nobody else."""
SILENCE = 5.0
"""Seconds that a connection may say nothing."""


@dataclass(frozen=True, kw_only=True)
class KeptOffers:
    """carriers' `Offers`, in the lab's database."""

    database: Database

    def find(self, token_sha256: bytes) -> tuple[Offer, OfferState] | None:
        with self.database.session() as conn:
            return firstboot_tokens.find(conn, token_sha256)

    def use(self, token_sha256: bytes) -> bool:
        with self.database.session() as conn:
            return firstboot_tokens.use(conn, token_sha256)


@dataclass(frozen=True, kw_only=True)
class OfferedByHttp:
    """drivers' `Pull`: `base` is what machines reach the server as, `seconds` how long an offer is good."""

    database: Database
    base: str
    seconds: float

    def offer(self, computer: Computer, firstboot: FirstBoot, *, mac: str, patience: Patience) -> str:
        address = str(computer.private_address or "")
        token, one = new_offer(firstboot, computer_id=computer.id, mac=mac, address=address)
        patience.until(lambda: self._kept(one), "the database to keep what the machine will fetch")
        return pull_url(self.base, mac, token)

    def _kept(self, one: Offer) -> bool:
        try:
            with self.database.session() as conn:
                firstboot_tokens.offer(conn, one, seconds=self.seconds)
        except DatabaseAway:
            return False
        return True


class PullServer:
    """Answers machines in threads of its own. `listen` is ADDRESS:PORT, port 0 for any that is free.

    `hear` is given the address and the answer of each request that was one. Raises SettingsError if the address is not
    this machine's or in use.
    """

    def __init__(self, listen: str, offers: Offers, *, hear: Callable[[str, Answer], None]) -> None:
        host, _, port = listen.rpartition(":")
        try:
            self._server = _Bounded((host, int(port)), partial(Request, offers=offers, hear=hear))
        except (OSError, ValueError, OverflowError) as no:
            raise SettingsError(f"[firstboot] pull_listen: cannot listen on {listen!r}: {no}") from no
        self._thread = threading.Thread(target=self._server.serve_forever, name="first boot", daemon=True)

    @property
    def address(self) -> str:
        """HOST:PORT that it listens on."""
        host, port = self._server.server_address[:2]
        return f"{host}:{port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Takes no more; what is being answered is, or falls silent."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def journalled(scribe: Scribe, address: str, given: Answer) -> None:
    """Says in log and journal who fetched what, or was refused and why."""
    level = {200: INFO, 404: DEBUG}.get(given.status, WARNING)  # 404 is noise: anybody can ask for anything
    log.log(level, "first_boot.asked", address=address, mac=given.mac, answered=given.status, said=given.said)
    if given.computer_id is not None:
        said = f"{address} ({given.mac}) {given.said}"
        scribe.write(Line(kind="note", said=said, computer_id=given.computer_id))


class _Bounded(ThreadingMixIn, HTTPServer):
    """As many threads as connections are let in."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = AT_ONCE

    def __init__(self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the standard library's
        with self._lock:
            host = client_address[0]
            if self._open.total() >= AT_ONCE or self._open[host] >= FROM_ONE_ADDRESS:
                return False
            self._open[host] += 1
            return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open -= Counter({client_address[0]: 1})

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the standard library's
        """A machine that hung up is nobody's fault; whatever else it is, the log must have."""
        error = sys.exception()
        expected = isinstance(error, OSError)
        log.log(DEBUG if expected else ERROR, "first_boot.broken_off", address=client_address[0], exc_info=not expected)


class Request(BaseHTTPRequestHandler):
    """One connection, one question."""

    timeout = SILENCE
    server_version, sys_version = "vcld", ""

    def __init__(self, *args: Any, offers: Offers, hear: Callable[[str, Answer], None]) -> None:
        self._offers, self._hear = offers, hear
        super().__init__(*args)

    def do_GET(self) -> None:
        address = self.client_address[0]
        try:
            given = answer(self.path, address, self._offers)
        except DatabaseAway:
            given = Answer(status=503, body="not now\n", said="was asked to come again: the database is away")
        # Before it is sent: a secret that was given out is on record however the connection ends.
        self._hear(address, given)
        self._send(given)

    def _send(self, given: Answer) -> None:
        body = given.body.encode()
        self.send_response(given.status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Not this way: its line would have the token in it."""
