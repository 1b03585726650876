"""Which database a command speaks to."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vcl_provision.daemon.settings import USUAL_FILE, ModulesSettings, read_settings
from vcl_provision.faces.lab.folder import LabFolder, present_lab
from vcl_provision.model.faults import Refused
from vcl_provision.store.database import Connection, Listener, listen


class NoPlace(Refused):
    """No database was named, and no lab is up."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A database, and the lab of one's own that it belongs to, if it does. `said` names it to people."""

    dsn: str
    said: str
    lab: LabFolder | None = None
    modules: ModulesSettings = field(default_factory=ModulesSettings)

    @contextmanager
    def session(self) -> Generator[Connection]:
        """One connection, each statement for itself. Raises DatabaseAway."""
        with self.listener([]) as listener:
            yield listener.connection

    @contextmanager
    def listener(self, channels: list[str]) -> Generator[Listener]:
        """One connection that hears these channels, and can be asked. Raises DatabaseAway."""
        with closing(listen(self.dsn, channels)) as listener:
            yield listener


def find_place(*, dsn: str = "", conf: Path | None = None, environ: Mapping[str, str] = os.environ) -> Place:
    """In this order: --dsn, VCL_DSN, --conf or VCL_CONF, what `vcl up` brought up, /etc/vcl-provision/vcld.toml.

    Raises NoPlace if there is none of them, SettingsError for a file that cannot be used.
    """
    if dsn or environ.get("VCL_DSN"):
        return Place(dsn=dsn or environ["VCL_DSN"], said="the given database")
    if conf or environ.get("VCL_CONF"):
        return _from_file(conf, environ)
    lab = present_lab(environ)
    if lab and lab.settings.exists():
        settings = read_settings(lab.settings, environ={})
        return Place(dsn=settings.database.dsn, said=f"the lab in {lab.path}", lab=lab, modules=settings.modules)
    if USUAL_FILE.exists():
        return _from_file(USUAL_FILE, environ)
    raise NoPlace("there is no lab to speak to", "bring one up: vcl up, or vcl up --sim; or name a database: --dsn")


def _from_file(conf: Path | None, environ: Mapping[str, str]) -> Place:
    settings = read_settings(conf, environ=environ)
    return Place(dsn=settings.database.dsn, said=f"the database of {settings.source}", modules=settings.modules)
