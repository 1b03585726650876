"""How much is asked for ahead of what is read."""

from __future__ import annotations

import pytest

from vcl_provision.channels.sftp_reading import LEAST_AHEAD, MOST_AHEAD, Pace

MB = 1_000_000


def settled(journey: float, line: float) -> int:
    """Bytes on their way after a while, over a line of so many bytes a second."""
    pace, now = Pace(journey, 0.0), 0.0
    for _ in range(1000):
        now += max(LEAST_AHEAD / line, LEAST_AHEAD / pace.ahead * journey)  # the line's time, or an idle line's
        pace.came(LEAST_AHEAD, now)
    return pace.ahead


@pytest.mark.parametrize("line", [10 * MB, 100 * MB, 1000 * MB])
def test_where_there_is_no_line_to_speak_of_little_is_on_its_way(line: float) -> None:
    assert settled(0.0002, line) == LEAST_AHEAD


def test_a_long_line_is_kept_full() -> None:
    assert settled(0.040, 110 * MB) == pytest.approx(2 * 0.040 * 110 * MB, rel=0.1)


def test_it_has_an_end() -> None:
    assert settled(0.200, 1000 * MB) == MOST_AHEAD


def test_a_line_that_became_slower_is_filled_less() -> None:
    pace = Pace(0.040, 0.0)
    for number in range(1, 100):
        pace.came(LEAST_AHEAD, number * 0.01)
    full = pace.ahead
    for number in range(1, 100):
        pace.came(LEAST_AHEAD, 1.0 + number * 0.1)
    assert LEAST_AHEAD == pace.ahead < full
