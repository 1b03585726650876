"""A whole lab on the simulated hypervisor, as `vcl up --sim` brings it up, and the real `vcl` to speak to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vcl_provision.daemon.settings import read_settings
from vcl_provision.faces import watch
from vcl_provision.faces.lab.daemon import LabDaemon
from vcl_provision.faces.lab.folder import LabFolder
from vcl_provision.store import requests
from vcl_provision.store.database import listen
from vcl_provision.workflow.lifecycle import LIVE

VCL = Path(sys.executable).with_name("vcl")
TAKES = 60
"""Seconds that no command of the tests takes unless something is wrong."""


@dataclass(frozen=True)
class Vcl:
    """The program `vcl`, speaking to one lab."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VCL_", "PG"))}
        return {**kept, "VCL_LAB": str(self.folder), "COLUMNS": "120", "HOME": str(self.folder.parent)}

    def run(self, *argv: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs it to its end; its exit status is checked."""
        ran = subprocess.run([VCL, *argv], env=self.environ, capture_output=True, text=True, timeout=TAKES, check=False)
        assert ran.returncode == status, f"vcl {' '.join(argv)}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        return ran

    def says(self, *argv: str) -> str:
        return self.run(*argv).stdout

    def refuses(self, *argv: str, status: int = 1) -> str:
        """What it says on standard error, which is an error and no traceback."""
        said = self.run(*argv, status=status).stderr
        assert said.startswith("error: ")
        assert "Traceback" not in said
        return said

    def data(self, *argv: str) -> Any:
        return json.loads(self.says(*argv, "--json"))

    def reserve(self, *argv: str) -> int:
        """The number of a new request."""
        return self.data("reserve", "debian12", *argv)["id"]

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Begins a command that can be interrupted, also where this process was started with interrupts ignored."""
        listening = ["env", "--default-signal=INT", VCL, *argv]
        return subprocess.Popen(listening, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="session")
def sim_lab_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sim") / "lab"
    vcl = Vcl(folder)
    try:
        vcl.run("up", "--sim", "--computers", "3")
        _hurry(LabFolder(folder))
        yield folder
    finally:
        vcl.run("down", "--purge")


@pytest.fixture
def vcl(sim_lab_folder: Path) -> Iterator[Vcl]:
    """A lab of three computers; whatever a test reserved in it is given back afterwards."""
    vcl = Vcl(sim_lab_folder)
    yield vcl
    dsn = read_settings(LabFolder(sim_lab_folder).settings, environ={}).database.dsn
    with closing(listen(dsn, [watch.CHANNEL])) as listener:
        for request in requests.live(listener.connection):
            if request.state in LIVE:
                requests.end(listener.connection, request.id)
        for request in requests.live(listener.connection):
            watch.wait(listener, request.id, until=watch.to_its_end)


def _hurry(lab: LabFolder) -> None:
    """Its machines boot at once, its users come at once."""
    LabDaemon(lab).stop()
    settled, _, _ = lab.settings.read_text().partition("[modules.sim]")
    lab.settings.write_text(settled + '[modules.sim]\nusers_come = "0.1"\n')
    LabDaemon(lab).start()
