"""Hears the database. A hint only: what is missed, the ticks find."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from vcl_provision.model.faults import SettingsError
from vcl_provision.store import nodes
from vcl_provision.store.database import Database, DatabaseAway, Listener

log = structlog.get_logger(__name__)

CHANNELS = ("vcl_due", "vcl_cancel")
QUEUE = "queue"
"""What vcl_due says when a computer may be given to somebody; else something is due that has one."""
SLICE = 1.0
"""Seconds between two looks whether to stop."""
LONGEST = 5.0
"""Seconds, the longest wait between two tries to connect again."""


@dataclass(kw_only=True)
class DatabaseListener:
    """One connection of its own; it also holds the node's name, so that there is one `vcld` of that name at a time."""

    database: Database
    node: str
    on_due: Callable[[bool], None]
    """Something is due, or, if true, somebody may be given a computer."""
    on_cancel: Callable[[set[int]], None]
    """Reservations whose requests changed while somebody worked on them."""
    on_connected: Callable[[], None]
    """Connected again: anything may have been missed."""
    on_usurped: Callable[[], None]
    _stopping: threading.Event = field(default_factory=threading.Event)
    _server_process: int | None = None
    """The one that held the name for us last."""
    _thread: threading.Thread = field(init=False)

    def start(self) -> None:
        """Connects, takes the node's name and begins to listen. Raises SettingsError if another one has the name."""
        listener = self._connect()
        if listener is None:
            raise SettingsError(
                f"another vcld of the name {self.node!r} runs on this database: stop it, or give this one another name "
                "([node] name in vcld.toml)"
            )
        self._thread = threading.Thread(target=self._listen_on, args=[listener], name="listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)

    def _connect(self) -> Listener | None:
        """None if somebody else has the name."""
        listener = self.database.listener(CHANNELS)
        if not nodes.hold_name(listener.connection, self.node, instead_of=self._server_process):
            listener.close()
            return None
        self._server_process = listener.connection.info.backend_pid
        return listener

    def _listen_on(self, listener: Listener | None) -> None:
        while listener is not None and not self._stopping.is_set():
            try:
                self._hear(listener)
            except DatabaseAway as away:
                log.warning("listener.disconnected", because=str(away))
                listener = self._again()
        if listener is not None:
            listener.close()

    def _hear(self, listener: Listener) -> None:
        while not self._stopping.is_set():
            heard = listener.heard(SLICE)
            changed = {int(one.payload) for one in heard if one.channel == "vcl_cancel"}
            if changed:
                self.on_cancel(changed)
            due = [one.payload for one in heard if one.channel == "vcl_due"]
            if due:
                self.on_due(QUEUE in due)

    def _again(self) -> Listener | None:
        """Connects again with a growing pause. What was missed meanwhile is asked for at once."""
        pause = 0.1
        while not self._stopping.wait(pause):
            try:
                listener = self._connect()
            except DatabaseAway:
                pause = min(LONGEST, pause * 2)
                continue
            if listener is None:
                log.error("node.name_taken", node=self.node)
                self.on_usurped()
                return None
            log.info("listener.connected")
            self.on_connected()
            return listener
        return None
