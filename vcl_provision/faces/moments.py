"""Moments as people write them on a command line."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from vcl_provision.model.faults import Refused

_HOUR = re.compile(r"(\d{1,2}):(\d{2})\Z")
_DAY = re.compile(r"(today|tomorrow|\+(\d+) ?d)[ T]", re.IGNORECASE)


def moment(text: str, now: datetime) -> datetime:
    """`18:30` (the next one), `tomorrow 9:00`, `+3d 9:00`, `2026-11-30 18:30`, or ISO 8601 with a zone.

    Without a zone it is in that of `now`. Raises Refused for anything else.
    """
    try:
        return _on_a_day(text.strip(), now) or _iso(text.strip(), now)
    except ValueError as no:
        raise Refused(
            f"{text!r} is no moment", 'write it like 18:30, "tomorrow 9:00", "2026-11-30 18:30" or in ISO 8601'
        ) from no


def _on_a_day(text: str, now: datetime) -> datetime | None:
    day = _DAY.match(text)
    hour = _HOUR.match(text[day.end() :].strip() if day else text)
    if hour is None:
        return None
    at = now.replace(hour=int(hour[1]), minute=int(hour[2]), second=0, microsecond=0)
    if day is None:
        return at if at > now else at + timedelta(days=1)
    return at + timedelta(days=0 if day[1].lower() == "today" else int(day[2] or 1))


def _iso(text: str, now: datetime) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=now.tzinfo)
