"""The kept connections into guests: one each, opened once per load and used by everything that follows."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from vcl_provision.channels.command import LOOK
from vcl_provision.channels.keys import KeyPair
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Audit, Channel, NoAudit
from vcl_provision.channels.ssh import SshChannel
from vcl_provision.channels.transport import Peer, connect
from vcl_provision.model.faults import Ran, Transient
from vcl_provision.model.lab import Computer


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What it took so far, over all guests."""

    connections: int
    commands: int


class _Counted:
    """An audit that counts what it passes on."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._lock = threading.Lock()
        self.commands = 0

    def ran(self, where: str, ran: Ran, *, changes: bool) -> None:
        with self._lock:
            self.commands += 1
        self._audit.ran(where, ran, changes=changes)


@dataclass
class _Slot:
    """A computer's connection; `peer` is whom it was made to: a load gives a new host key, and so needs a new one."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    peer: Peer | None = None
    channel: SshChannel | None = None

    def close(self) -> None:
        if self.channel:
            self.channel.close()
        self.channel = self.peer = None


class GuestConnections:
    """drivers' `Guests`, over ssh. Threads may share it: of many that ask for one computer one connects, for all."""

    def __init__(self, *, key: KeyPair, user: str = "root", audit: Audit | None = None, port: int = 22) -> None:
        self._key = key
        self._user = user
        self._port = port
        self._audit = _Counted(audit or NoAudit())
        self._lock = threading.Lock()
        self._slots: dict[int, _Slot] = {}
        self._opened = 0

    @property
    def counts(self) -> Counts:
        """Connections opened and commands run, of which a load may need 1 and 10."""
        return Counts(connections=self._opened, commands=self._audit.commands)

    def channel(self, computer: Computer, *, patience: Patience) -> Channel:
        """The kept connection, or one attempt at a new one: soon over while the machine does not answer, so ask again.

        Raises Transient if it does not let us in now, WrongHostKey, Refused, Cancelled.
        """
        slot = self._slot(computer.id)
        peer = self._peer(computer)
        _take(slot.turn, computer, patience)
        try:
            if slot.channel and slot.channel.alive and slot.peer == peer:
                return slot.channel
            slot.close()
            connection = connect(peer, self._key, patience)
            slot.peer, slot.channel = peer, SshChannel(connection, where=computer.name, audit=self._audit)
            self._keep(computer, slot)
            return slot.channel
        finally:
            slot.turn.release()

    def forget(self, computer: Computer) -> None:
        """Closes the connection, if there is one. For whoever stops or removes the machine."""
        with self._lock:
            slot = self._slots.pop(computer.id, None)
        if slot:
            slot.close()

    def close(self) -> None:
        """Closes all."""
        with self._lock:
            slots, self._slots = self._slots, {}
        for slot in slots.values():
            slot.close()

    def _keep(self, computer: Computer, slot: _Slot) -> None:
        with self._lock:
            self._opened += 1
            forgotten = self._slots.get(computer.id) is not slot
        if forgotten:
            slot.close()
            raise Transient(f"{computer.name} was stopped or removed while we connected to it")

    def _slot(self, computer_id: int) -> _Slot:
        with self._lock:
            return self._slots.setdefault(computer_id, _Slot())

    def _peer(self, computer: Computer) -> Peer:
        return Peer(
            name=computer.name,
            address=computer.private_address,
            port=self._port,
            user=self._user,
            host_key=computer.host_key,
        )


def _take(turn: threading.Lock, computer: Computer, patience: Patience) -> None:
    while not turn.acquire(timeout=min(LOOK, patience.remaining)):
        patience.check()
        if patience.remaining <= 0:
            raise Transient(f"somebody else is connecting to {computer.name}")
