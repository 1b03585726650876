"""The builder of a lab of one's own: images that are asked for with `vcl build --queue` are built beside vcld."""

from __future__ import annotations

import os
import sys

from vcl_provision.channels.background import Background
from vcl_provision.channels.patience import Patience
from vcl_provision.faces.lab.folder import LabFolder

STOPS = 90.0
"""Seconds in which it hands back what it builds and ends."""


class LabBuilder:
    """Started once, found again by its lock."""

    def __init__(self, lab: LabFolder) -> None:
        self._lab = lab
        self._program = Background(lab.builder_lock)

    def start(self) -> None:
        """Starts it, unless it runs."""
        if self._program.running() is not None:
            return
        argv = [sys.executable, "-m", "vcl_provision.faces.cli", "--conf", str(self._lab.settings), "builds", "run"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VCL_DSN", "VCL_CONF", "PG"))}
        self._program.start(argv, log=self._lab.builder_log, environment=kept)

    def stop(self) -> bool:
        """Ends it; what it builds goes back into the queue. False if it did not run."""
        return self._program.stop(patience=Patience(STOPS))
