"""Connections to hypervisors: kept, watched by keepalive, dropped when dead; the border where libvirt's errors end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Mapping
from queue import Empty, SimpleQueue
from typing import TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

from vcl_provision.drivers import (
    Cancelled,
    CommandFailed,
    HostUnreachable,
    Patience,
    Ran,
    Refused,
    TimedOut,
    Transient,
    VmHost,
)

from .binding import libvirt

T = TypeVar("T")
_UNREACHABLE = "is libvirtd running there, and may we reach it?"
_KEPT_IDLE, _OPENS = 4, 20.0
_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT = 5, 4
_events = threading.Lock()
_events_run = False


def uri_of(host: VmHost) -> str:
    """The libvirt URI of a VM host: its address, or that of its system daemon over ssh if it is only a machine's name.

    Credentials of the profile are the ssh key's file. ssh never asks anybody: there is nobody to answer.
    """
    if "://" not in host.address:
        return uri_of_address(f"qemu+ssh://root@{host.address}/system", host.profile.credentials)
    return uri_of_address(host.address, host.profile.credentials)


def uri_of_address(address: str, credentials: str) -> str:
    """See `uri_of`; the address is a URI. Raises Refused for credentials that are no file."""
    parts = urlsplit(address)
    if not parts.scheme.endswith("+ssh"):
        return address
    query = {"no_tty": ["1"]} | parse_qs(parts.query)
    if credentials:
        kind, _, path = credentials.partition(":")
        if kind != "file" or not path:
            raise Refused(f"{credentials!r} cannot be used with {address}", "name the ssh key: `file:/path/to/key`")
        query["keyfile"] = [path]
    return parts._replace(query=urlencode(query, doseq=True)).geturl()


def is_local(address: str) -> bool:
    """Is the hypervisor on this machine, so that its files are ours to see."""
    parts = urlsplit(address)
    return "://" in address and not parts.hostname and parts.scheme in {"qemu", "qemu+unix"}


class Hypervisor:
    """All connections to one URI. Each piece of work borrows one for itself: a daemon serves five calls of one client
    at a time, and answers no keepalive above that."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._idle: list[libvirt.virConnect] = []

    @contextlib.contextmanager
    def connected(self, patience: Patience) -> Generator[libvirt.virConnect]:
        """A connection for the work inside; libvirt's errors leave it as ours.

        Raises HostUnreachable if there is none to be had or it breaks, Transient for what is busy, Refused for what
        libvirt will not take, CommandFailed for the rest.
        """
        connection = self._take(patience)
        try:
            yield connection
        except libvirt.libvirtError as error:
            raise translated(error, self.uri) from error
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Closes what is idle; what is lent is closed when it comes back, as more than may be kept."""
        while self._idle:
            _close(self._idle.pop())

    def _take(self, patience: Patience) -> libvirt.virConnect:
        patience.check()  # nothing is begun for work that is to stop, also where an idle connection would be quick
        with contextlib.suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if _alive(connection):
                    return connection
                _close(connection)
        return _open(self.uri, patience)

    def _give_back(self, connection: libvirt.virConnect) -> None:
        if _alive(connection) and len(self._idle) < _KEPT_IDLE:
            self._idle.append(connection)
        else:
            _close(connection)


def found(ask: Callable[[], T], *absent: int) -> T | None:
    """What libvirt answers, None if it says so with one of these error codes."""
    try:
        return ask()
    except libvirt.libvirtError as error:
        if error.get_error_code() in absent:
            return None
        raise


def gone_is_fine(act: Callable[[], object], *absent: int) -> None:
    """Does something that may have been done already: these error codes say so."""
    found(act, *absent)


def translated(error: libvirt.libvirtError, uri: str) -> Exception:
    """The error of ours that says what happens next."""
    code, said = error.get_error_code() or 0, str(error)
    if code in _lost() or (error.get_error_domain() in _on_the_way() and code in _broken()):
        return HostUnreachable(f"{uri} does not answer: {said}", _UNREACHABLE)
    if code in {libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_RESOURCE_BUSY, libvirt.VIR_ERR_AGENT_UNRESPONSIVE}:
        return Transient(f"{uri} is busy: {said}", "another operation on this machine has not ended")
    hints = _refusals()
    if code in hints:
        return Refused(f"{uri} refuses: {said}", hints[code])
    ran = Ran(argv=("libvirt", uri), status=code or 1, stderr=said)
    return CommandFailed(f"{uri}: {said}", "the VM host's libvirtd log says more", ran=ran)


def _lost() -> set[int]:
    return {libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_SSH}


def _on_the_way() -> set[int]:
    return {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}


def _broken() -> set[int]:
    return {libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR}


def _refusals() -> Mapping[int, str]:
    described = "look at the overrides of its VM profile"
    return {
        libvirt.VIR_ERR_XML_ERROR: described,
        libvirt.VIR_ERR_XML_DETAIL: described,
        libvirt.VIR_ERR_XML_INVALID_SCHEMA: described,
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED: described,
        libvirt.VIR_ERR_NO_NETWORK: "define the network on the VM host, or name another in its VM profile",
        libvirt.VIR_ERR_AUTH_FAILED: "let the management node's user in there",
        libvirt.VIR_ERR_OPERATION_DENIED: "let the management node's user in there",
    }


def _open(uri: str, patience: Patience) -> libvirt.virConnect:
    """In a thread of its own, since nothing bounds how long ssh tries; what comes too late is closed."""
    _run_events()
    answers: SimpleQueue[libvirt.virConnect | libvirt.libvirtError] = SimpleQueue()
    given_up = threading.Event()
    threading.Thread(target=_try_to_open, args=(uri, answers, given_up), name=f"open {uri}", daemon=True).start()

    def answer() -> libvirt.virConnect | libvirt.libvirtError | None:
        with contextlib.suppress(Empty):
            return answers.get(timeout=0.05)
        return None

    try:
        opened = patience.at_most(_OPENS).until(answer, f"{uri} to answer", every=0)
    except (TimedOut, Cancelled) as end:
        given_up.set()
        if isinstance(end, Cancelled):
            raise
        raise HostUnreachable(end.said, _UNREACHABLE) from end
    if isinstance(opened, libvirt.libvirtError):
        raise HostUnreachable(f"{uri} does not answer: {opened}", _UNREACHABLE) from opened
    return opened


def _try_to_open(
    uri: str, answers: SimpleQueue[libvirt.virConnect | libvirt.libvirtError], given_up: threading.Event
) -> None:
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        answers.put(error)
        return
    with contextlib.suppress(libvirt.libvirtError):  # a driver within this process has nothing to keep alive
        connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
    answers.put(connection)
    if given_up.is_set():
        _close(connection)


def _alive(connection: libvirt.virConnect) -> bool:
    with contextlib.suppress(libvirt.libvirtError):
        return bool(connection.isAlive())
    return False


def _close(connection: libvirt.virConnect) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()


def _run_events() -> None:
    """libvirt's event loop carries keepalives and events; it is the process's, and runs before the first connection."""
    global _events_run  # noqa: PLW0603 - one per process is libvirt's own rule
    with _events:
        if not _events_run:
            libvirt.registerErrorHandler(_silent, None)
            libvirt.virEventRegisterDefaultImpl()
            threading.Thread(target=_events_for_ever, name="libvirt events", daemon=True).start()
            _events_run = True


def _events_for_ever() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _silent(_context: object, _error: object) -> None:
    """libvirt would write each error to standard error; they are raised, which is enough."""
