"""Moments as the database has them: from 4713 BC to the year 294276, and infinity; Python has less."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzLoader

BEGIN = datetime.min.replace(tzinfo=UTC) + timedelta(days=2)
"""Stands for all that was before it; two days from the edge, so that it can be said in every zone."""
END = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)
"""Stands for all that comes after it."""

_YEAR_OF_FIVE_DIGITS = re.compile(r"\d{5,}-")


class MomentLoader(TimestamptzLoader):
    """Reads a `timestamptz` of any year. One row that nobody can read would keep everybody from all the others."""

    def load(self, data: Buffer) -> datetime:
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return self._unusual(text, data)

    def _unusual(self, text: str, data: Buffer) -> datetime:
        if text == "-infinity" or text.endswith("BC"):
            return BEGIN
        if text == "infinity" or _YEAR_OF_FIVE_DIGITS.match(text):
            return END
        return super().load(data)  # says what it does not understand


def read_moments(conn: psycopg.Connection) -> None:
    """From now on this connection reads moments so."""
    conn.adapters.register_loader("timestamptz", MomentLoader)
