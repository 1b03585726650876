"""`vcl builds run`: the builder as a process, which gives way to everything else on its machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.building import Builder, Say
from vcl_provision.daemon.settings import BuildSettings, Settings, read_settings
from vcl_provision.faces.images.building import make, order_from
from vcl_provision.faces.logs import set_up_logs
from vcl_provision.faces.place import Place
from vcl_provision.store import migrate
from vcl_provision.store.database import Database


def run_builder(place: Place, conf: Path | None) -> None:
    """Runs until SIGTERM or SIGINT. Raises Refused, SettingsError and DatabaseAway if it cannot start."""
    settings = read_settings(conf or (place.lab.settings if place.lab else None))
    set_up_logs(settings.log)
    os.nice(settings.builds.nice)
    database = Database(place.dsn, max_size=2)
    try:
        with database.session() as conn:
            migrate.require_current(conn)
        builder = _builder(settings, place, database)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: builder.stop())
        builder.serve()
    finally:
        database.close()


def _builder(settings: Settings, place: Place, database: Database) -> Builder:
    builds: BuildSettings = settings.builds
    cache = None if builds.cache == Path() else builds.cache

    def build(spec: Mapping[str, object], patience: Patience, say: Say) -> str:
        return make(order_from(spec), place, builds.repository, cache=cache, patience=patience, say=say)

    return Builder(
        database=database, name=settings.node.known_as, make=build, lease=builds.lease, budget=builds.budget
    )
