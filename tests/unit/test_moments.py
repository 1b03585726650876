"""Moments are understood as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from vcl_provision.faces.moments import moment
from vcl_provision.model.faults import Refused

ZONE = timezone(timedelta(hours=2))
NOW = datetime(2026, 11, 21, 14, 30, 15, tzinfo=ZONE)


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("18:30", at(21, 18, 30)),
        ("9:00", at(22, 9)),
        ("14:30", at(22, 14, 30)),
        ("today 9:00", at(21, 9)),
        ("tomorrow 9:00", at(22, 9)),
        ("Tomorrow 9:00", at(22, 9)),
        ("+3d 9:00", at(24, 9)),
        ("2026-11-30 18:30", at(30, 18, 30)),
        ("2026-11-30", at(30, 0)),
        ("2026-11-30T18:30:00+00:00", datetime(2026, 11, 30, 18, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_understood(text: str, meant: datetime) -> None:
    assert moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["", "soon", "25:00", "9:60", "tomorrow", "2026-13-01", "18:30:00 or so"])
def test_what_is_no_moment_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(Refused) as no:
        moment(text, NOW)
    assert "tomorrow 9:00" in no.value.hint
