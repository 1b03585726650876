"""The settings of `vcld`: one TOML file, read into frozen values; `conf/vcld.toml` shows every one with its default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from socket import gethostname
from typing import Any, get_type_hints

from vcl_provision.images.firstboot import check_parameters
from vcl_provision.model.faults import Refused, SettingsError
from vcl_provision.model.options import Seconds, nearest, read_table
from vcl_provision.model.reservation import Timings

USUAL_FILE = Path("/etc/vcl-provision/vcld.toml")


def _require(holds: bool, said: str) -> None:  # noqa: FBT001 - reads as a sentence where it is called
    if not holds:
        raise ValueError(said)


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """Which management node this is. An empty name means the machine's own."""

    name: str = ""

    @property
    def known_as(self) -> str:
        return self.name or gethostname()


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """Where the database is: a libpq connection string or URL, several hosts too; empty: libpq's PG* variables."""

    dsn: str = field(default="", repr=False)
    pool: int = 4

    def __post_init__(self) -> None:
        _require(self.pool >= 2, "pool must be 2 or more")


@dataclass(frozen=True, kw_only=True)
class WorkSettings:
    """How much is done at a time, and how often the daemon looks by itself."""

    workers: int = 64
    per_host: int = 16
    lease: Seconds = 60
    tick: Seconds = 5
    drain: Seconds = 60
    measure_disks: Seconds = 60

    def __post_init__(self) -> None:
        _require(self.workers >= 1, "workers must be 1 or more")
        _require(self.per_host >= 1, "per_host must be 1 or more")
        _require(self.lease >= 3, "lease must be 3 s or more: it is renewed three times in its life")
        _require(self.tick > 0, "tick must be more than 0 s")
        _require(self.measure_disks >= 1, "measure_disks must be 1 s or more")


@dataclass(frozen=True, kw_only=True)
class SshSettings:
    """How the management node gets into its guests."""

    key: Path = Path("/var/lib/vcl-provision/id_ed25519")
    user: str = "root"
    connect: Seconds = 10


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """How long one turn of a reservation may take in each state before it is cut off."""

    new: Seconds = 3600
    reload: Seconds = 3600
    reserved: Seconds = 300
    inuse: Seconds = 300
    timeout: Seconds = 300
    deleted: Seconds = 300
    reclaim: Seconds = 3600
    failed: Seconds = 900


@dataclass(frozen=True, kw_only=True)
class BreakerSettings:
    """When a VM host that does not answer is left alone, and for how long."""

    failures: int = 3
    cooldown: Seconds = 30

    def __post_init__(self) -> None:
        _require(self.failures >= 1, "failures must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """How `vcl builds run`, the builder, makes images that are asked for in the queue."""

    repository: str = ""
    cache: Path = Path()
    budget: Seconds = 7200
    lease: Seconds = 60
    nice: int = 10

    def __post_init__(self) -> None:
        _require(self.lease >= 10, "lease must be 10 s or more: it is renewed while a build runs")
        _require(0 <= self.nice <= 19, "nice must be from 0 to 19")


@dataclass(frozen=True, kw_only=True)
class KeepSettings:
    """How long the journal, the load log and builds that are over are kept."""

    journal: Seconds = 365 * 86400
    load_log: Seconds = 365 * 86400
    builds: Seconds = 90 * 86400


class LogFormat(StrEnum):
    """`auto` is console on a terminal, JSON elsewhere."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """How the daemon's log is written."""

    format: LogFormat = LogFormat.AUTO
    level: LogLevel = LogLevel.INFO


@dataclass(frozen=True, kw_only=True)
class FirstBootSettings:
    """What every machine is told at its first boot beside what its reservation needs; where machines may fetch it."""

    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    pull_listen: str = ""
    pull_url: str = ""
    pull_lasts: Seconds = 900

    def __post_init__(self) -> None:
        try:
            check_parameters(self.parameters)
        except Refused as no:
            raise ValueError(f"parameters: {no.said}: {no.hint}") from no
        host, _, port = self.pull_listen.rpartition(":")
        _require(not self.pull_listen or (bool(host) and port.isdecimal()), "pull_listen must be ADDRESS:PORT")
        _require(self.pull_url.startswith("http://") or not self.pull_url, "pull_url must begin with http://")
        _require(self.pull_lasts > 0, "pull_lasts must be more than 0 s")


@dataclass(frozen=True, kw_only=True)
class ModulesSettings:
    """Where modules are looked for besides our own, and the options of each, which the module itself checks."""

    module_path: tuple[Path, ...] = ()
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict[str, Mapping[str, object]])


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. `source` is the file that they came from, None if there was none."""

    source: Path | None = None
    node: NodeSettings = NodeSettings()
    database: DatabaseSettings = DatabaseSettings()
    work: WorkSettings = WorkSettings()
    ssh: SshSettings = SshSettings()
    timing: Timings = Timings()  # noqa: RUF009 - frozen, as the others are
    budget: BudgetSettings = BudgetSettings()
    breaker: BreakerSettings = BreakerSettings()
    builds: BuildSettings = BuildSettings()
    keep: KeepSettings = KeepSettings()
    log: LogSettings = LogSettings()
    firstboot: FirstBootSettings = FirstBootSettings()
    modules: ModulesSettings = ModulesSettings()


def read_settings(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads `path`, else what VCL_CONF names, else /etc/vcl-provision/vcld.toml if it is there; else all is default.

    VCL_DSN wins over `[database] dsn`. Relative paths in the file count from the file's own folder.
    Raises SettingsError, which names file and key, for whatever cannot be used.
    """
    source = path or _usual(environ)
    settings = _of(_parsed(source), source) if source else Settings()
    dsn = environ.get("VCL_DSN", "")
    return replace(settings, database=replace(settings.database, dsn=dsn)) if dsn else settings


def _usual(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("VCL_CONF", "")
    if named:
        return Path(named)
    return USUAL_FILE if USUAL_FILE.exists() else None


def _parsed(source: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as no:
        raise SettingsError(f"{source}: cannot be read: {no.strerror}; --conf or VCL_CONF name another") from no
    except UnicodeDecodeError as no:
        raise SettingsError(f"{source}: is not UTF-8 text (byte {no.start})") from no
    except tomllib.TOMLDecodeError as no:
        raise SettingsError(f"{source}: is not TOML: {no}") from no


def _of(document: Mapping[str, Any], source: Path) -> Settings:
    hints = get_type_hints(Settings, include_extras=True)
    sections = [f.name for f in fields(Settings) if is_dataclass(hints[f.name])]
    for name, table in document.items():
        if name not in sections:
            raise SettingsError(f"{source}: there is no table [{name}]{nearest(name, sections)}")
        if not isinstance(table, dict):
            raise SettingsError(f"{source}: {name} is a table; write [{name}] on a line of its own")
    tables = {**document, **({"modules": _with_options(document["modules"])} if "modules" in document else {})}
    made = {name: read_table(hints[name], tables[name], where=f"{source}: [{name}]") for name in tables}
    return _placed(Settings(source=source.absolute(), **made), source.absolute().parent)


def _placed(settings: Settings, folder: Path) -> Settings:
    """Relative paths in the file count from its folder."""
    builds = settings.builds
    if builds.cache != Path():
        builds = replace(builds, cache=folder / builds.cache.expanduser())
    ssh = replace(settings.ssh, key=folder / settings.ssh.key.expanduser())
    places = tuple(folder / place.expanduser() for place in settings.modules.module_path)
    return replace(settings, ssh=ssh, builds=builds, modules=replace(settings.modules, module_path=places))


def _with_options(modules: Mapping[str, object]) -> dict[str, object]:
    """`[modules.<name>]` tables are options, plain keys are settings of ours."""
    options = [name for name, value in modules.items() if isinstance(value, dict)]
    plain = {name: value for name, value in modules.items() if name not in options}
    return {**plain, "options": {name: modules[name] for name in options}}
