"""Where a lab of one's own lies, and which one is the present one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SIMULATED = "sim"
"""The module that needs no hypervisor."""


@dataclass(frozen=True)
class LabFolder:
    """The places in a lab's folder."""

    path: Path

    @property
    def settings(self) -> Path:
        return self.path / "vcld.toml"

    @property
    def database(self) -> Path:
        return self.path / "postgres"

    @property
    def management_key(self) -> Path:
        return self.path / "keys" / "management"

    @property
    def user_key(self) -> Path:
        return self.path / "keys" / "user"

    @property
    def log(self) -> Path:
        return self.path / "vcld.log"

    @property
    def daemon_lock(self) -> Path:
        """Locked by the running daemon, with its process id in it."""
        return self.path / "vcld.pid"

    @property
    def builder_log(self) -> Path:
        return self.path / "builder.log"

    @property
    def builder_lock(self) -> Path:
        """Locked by the running builder, with its process id in it."""
        return self.path / "builder.pid"

    @property
    def module_note(self) -> Path:
        """Names the module that brought the lab up, and takes it down."""
        return self.path / "module"

    @property
    def module(self) -> str:
        """The module's name, empty before it is up."""
        try:
            return self.module_note.read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    @property
    def simulated(self) -> bool:
        return self.module == SIMULATED

    def of_module(self, name: str) -> Path:
        return self.path / name


def usual_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`$VCL_LAB`; root's is /var/lib/vcl-provision/lab, everybody else's `$XDG_STATE_HOME/vcl/lab`."""
    if environ.get("VCL_LAB"):
        return Path(environ["VCL_LAB"]).absolute()
    return _state(environ) / "lab"


def present_lab(environ: Mapping[str, str] = os.environ) -> LabFolder | None:
    """The lab that commands speak to: `$VCL_LAB`, else the one brought up last and not taken down."""
    if environ.get("VCL_LAB"):
        return LabFolder(usual_folder(environ))
    try:
        return LabFolder(Path(_note(environ).read_text(encoding="utf-8").strip()))
    except OSError:
        return None


def remember(lab: LabFolder, environ: Mapping[str, str] = os.environ) -> None:
    """From now on it is the present one; `$VCL_LAB` says it already."""
    if environ.get("VCL_LAB"):
        return
    _note(environ).parent.mkdir(parents=True, exist_ok=True)
    _note(environ).write_text(f"{lab.path}\n", encoding="utf-8")


def forget(lab: LabFolder, environ: Mapping[str, str] = os.environ) -> None:
    """It is the present one no more."""
    if not environ.get("VCL_LAB") and present_lab(environ) == lab:
        _note(environ).unlink(missing_ok=True)


def _note(environ: Mapping[str, str]) -> Path:
    return _state(environ) / "present-lab"


def _state(environ: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/vcl-provision")
    return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "vcl"
