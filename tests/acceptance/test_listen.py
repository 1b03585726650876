"""Who listens hears each change, and nothing waits for a tick."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fix_daemon import DaemonLab

from vcl_provision.store.database import Connection


@pytest.fixture
def ear(dsn: str) -> Iterator[Connection]:
    """A front end that listens."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("LISTEN vcl_request")
        yield conn


def heard_until(ear: Connection, state: str, seconds: float = 20) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    ends = time.monotonic() + seconds
    while not said or said[-1]["state"] != state:
        assert time.monotonic() < ends, said
        said += [json.loads(notify.payload) for notify in ear.notifies(timeout=0.2)]
    return said


def test_each_change_is_heard_and_none_waits_for_a_tick(dlab: DaemonLab, ear: Connection) -> None:
    dlab.node(work={"tick": 600, "lease": 60}, sim={"delays": {"boot": "0.2"}}).start()
    request = dlab.reserve()
    said = heard_until(ear, "inuse", seconds=5)
    dlab.end(request)
    said += heard_until(ear, "complete", seconds=5)
    assert {one["id"] for one in said} == {request}
    states = [one["state"] for one in said]
    assert sorted(set(states), key=states.index) == ["new", "reserved", "inuse", "deleted", "reclaim", "complete"]
    assert {"bootstate", "removing"} <= {one["step"] for one in said}


def test_why_one_waits_is_heard(dlab: DaemonLab, ear: Connection) -> None:
    dlab.node(work={"tick": 600, "lease": 60}).start()
    for _ in dlab.lab.computers:
        dlab.reserve()
    waiting = dlab.reserve()
    ends = time.monotonic() + 10
    because: list[str] = []
    while not because:
        assert time.monotonic() < ends
        said = [json.loads(notify.payload) for notify in ear.notifies(timeout=0.2)]
        because = [one["because"] for one in said if one["id"] == waiting and "because" in one]
    assert because == ["all 4 computers that can run the image are taken"]
