"""One log, whoever speaks: our own lines and those of libraries, for people or for journald."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from vcl_provision.daemon.settings import LogFormat, LogLevel, LogSettings
from vcl_provision.faces.logs import set_level, set_up_logs
from vcl_provision.model.secret import Secret


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_where_nobody_looks_each_line_is_json_with_its_fields() -> None:
    out = io.StringIO()
    set_up_logs(LogSettings(), stream=out)
    structlog.get_logger("vcl.test").info("claimed", reservation=17)
    (line,) = lines(out)
    assert (line["event"], line["reservation"], line["level"]) == ("claimed", 17, "info")
    assert str(line["timestamp"]).endswith("Z")


def test_logs_of_libraries_come_the_same_way_with_what_is_bound() -> None:
    out = io.StringIO()
    set_up_logs(LogSettings(format=LogFormat.JSON), stream=out)
    with structlog.contextvars.bound_contextvars(reservation=17):
        logging.getLogger("some.library").warning("lost %s", "it")
    (line,) = lines(out)
    assert (line["event"], line["logger"], line["reservation"]) == ("lost it", "some.library", 17)


def test_for_people_a_line_reads_without_json() -> None:
    out = io.StringIO()
    set_up_logs(LogSettings(format=LogFormat.CONSOLE), stream=out)
    structlog.get_logger().info("claimed", reservation=17)
    assert "claimed" in out.getvalue()
    assert "reservation=17" in out.getvalue()


def test_a_traceback_does_not_show_what_is_secret() -> None:
    for form in (LogFormat.CONSOLE, LogFormat.JSON):
        out = io.StringIO()
        set_up_logs(LogSettings(format=form), stream=out)
        _fail_with(Secret("hush"))
        assert "LookupError" in out.getvalue()
        assert "hush" not in out.getvalue()


def test_chatty_libraries_are_heard_at_level_debug_only() -> None:
    out = io.StringIO()
    set_up_logs(LogSettings(format=LogFormat.JSON), stream=out)
    logging.getLogger("paramiko.transport").info("before")
    set_level(LogLevel.DEBUG)
    logging.getLogger("paramiko.transport").info("after")
    assert [line["event"] for line in lines(out)] == ["after"]


def _fail_with(password: Secret) -> None:
    shown = password.reveal()
    try:
        _fail(len(shown))
    except LookupError:
        structlog.get_logger().exception("it failed")


def _fail(length: int) -> None:
    raise LookupError(f"nothing is {length} long")
