"""How the log is written: lines for people on a terminal, JSON for journald. Libraries' logs go the same way."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from vcl_provision.daemon.settings import LogFormat, LogLevel, LogSettings

CHATTY = ("paramiko", "apscheduler", "psycopg.pool", "asyncio", "transitions")
"""Libraries whose INFO says what our own log says better; heard in full at level debug."""

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def set_up_logs(settings: LogSettings, *, stream: TextIO = sys.stderr) -> None:
    """Makes structlog and the standard library's logging write to `stream` as the settings say. Can be called again."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
    ]
    as_json = _as_json(settings.format, stream)
    shared.append(structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _set_up_standard(settings.level, stream, _formatter(shared, _ending(stream, as_json=as_json)))


def set_level(level: LogLevel) -> None:
    """Changes the least that is written."""
    logging.getLogger().setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level is LogLevel.DEBUG else logging.WARNING)


def _set_up_standard(level: LogLevel, stream: TextIO, formatter: logging.Formatter) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.getLogger().handlers = [handler]
    logging.captureWarnings(capture=True)
    set_level(level)


def _formatter(shared: list[Processor], ending: list[Processor]) -> logging.Formatter:
    first: Processor = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[first, *ending])


def _ending(stream: TextIO, *, as_json: bool) -> list[Processor]:
    if not as_json:
        # rich's tracebacks would print local variables, and with them what is secret
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain, pad_event_to=36)]
    renderer = structlog.processors.JSONRenderer(default=str)
    return [structlog.processors.format_exc_info, _with_priority(renderer) if _is_journal(stream) else renderer]


def _as_json(form: LogFormat, stream: TextIO) -> bool:
    return form is LogFormat.JSON or (form is LogFormat.AUTO and not stream.isatty())


def _is_journal(stream: TextIO) -> bool:
    """True if systemd connected the stream to its journal (`$JOURNAL_STREAM` is its device and inode)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _with_priority(renderer: structlog.processors.JSONRenderer) -> Processor:
    """Puts the syslog priority before the line, so that `journalctl -p err` finds it."""

    def render(logger: WrappedLogger, name: str, event: EventDict) -> str:
        line = renderer(logger, name, event)
        return f"<{_PRIORITIES.get(str(event.get('level')), 6)}>{line if isinstance(line, str) else line.decode()}"

    return render
