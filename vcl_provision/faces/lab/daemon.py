"""The `vcld` of a lab of one's own: in the background, with its log and settings in the lab's folder."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vcl_provision.channels.background import Background
from vcl_provision.channels.patience import Patience
from vcl_provision.faces.lab.folder import LabFolder
from vcl_provision.model.faults import Refused

STARTS, STOPS = 30.0, 75.0
"""Seconds that it may take to say that it is ready, and to end: longer than it drains."""


class LabDaemon:
    """Started once, found again by its lock."""

    def __init__(self, lab: LabFolder) -> None:
        self._lab = lab
        self._program = Background(lab.daemon_lock)

    def running(self) -> int | None:
        """Its process id, None if it does not run."""
        return self._program.running()

    def start(self, environ: Mapping[str, str] = os.environ) -> None:
        """Starts it, unless it runs, and waits until it says that it is ready. Raises Refused, with its last words."""
        if self.running() is not None:
            return
        with tempfile.TemporaryDirectory(prefix="vcl-") as folder, _listener(Path(folder) / "notify") as heard:
            argv = [sys.executable, "-m", "vcl_provision.faces.vcld", "--conf", str(self._lab.settings)]
            began = self._lab.log.stat().st_size if self._lab.log.exists() else 0
            self._program.start(argv, log=self._lab.log, environment=_environment(environ, heard))
            Patience(STARTS).until(
                lambda: self._is_ready(heard, began), "vcld to be ready", every=0, hint=f"see {self._lab.log}"
            )

    def stop(self) -> bool:
        """Ends it; waits while it hands back what it holds. False if it did not run."""
        return self._program.stop(patience=Patience(STOPS))

    def _is_ready(self, heard: socket.socket, log_began: int) -> bool:
        try:
            return b"READY=1" in heard.recv(4096).splitlines()
        except TimeoutError:
            if self.running() is None:
                raise Refused("vcld ended instead of starting", self._last_words(log_began)) from None
            return False

    def _last_words(self, log_began: int) -> str:
        with self._lab.log.open("rb") as log:
            log.seek(log_began)
            words = log.read().decode(errors="replace").strip().splitlines()
        return f"{words[-1] if words else 'it said nothing'} (all of it: {self._lab.log})"


LIFELIKE = """
[modules.sim]
delays = { load = "uniform(0.3, 0.6)", boot = "uniform(3, 6)", "guest.add_user" = "uniform(0.1, 0.3)" }
users_come = "uniform(1, 3)"
"""
"""A simulated lab that is to be looked at takes its time, and its users come when they are let in."""


def write_settings(lab: LabFolder, dsn: str) -> None:
    """The lab's vcld.toml, made anew. What the user wants otherwise goes into a file of their own."""
    quoted = json.dumps
    lab.settings.write_text(
        "# Written by `vcl up`, anew each time.\n"
        f"[node]\nname = {quoted(socket.gethostname())}\n\n"
        f"[database]\ndsn = {quoted(dsn)}\n\n"
        f"[ssh]\nkey = {quoted(str(lab.management_key))}\n\n"
        '[log]\nformat = "console"\n' + (LIFELIKE if lab.simulated else ""),
        encoding="utf-8",
    )
    lab.settings.chmod(0o600)


def _listener(path: Path) -> socket.socket:
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(str(path))
    heard.settimeout(0.2)
    return heard


def _environment(environ: Mapping[str, str], heard: socket.socket) -> dict[str, str]:
    """Ours, but for what would lead it to another database than the lab's."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("VCL_", "PG"))}
    return {**kept, "NOTIFY_SOCKET": str(heard.getsockname())}
