"""Lengths of time are said as people read them."""

from __future__ import annotations

import pytest

from vcl_provision.model.duration import spoken


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (-1, "0.00 s"),
        (0.042, "0.04 s"),
        (0.996, "1.0 s"),
        (2.42, "2.4 s"),
        (9.97, "10 s"),
        (59.7, "1 min"),
        (61, "1 min 1 s"),
        (900, "15 min"),
        (5400, "1 h 30 min"),
        (3605, "1 h"),
        (90000, "1 d 1 h"),
        (86400 * 3 + 59, "3 d"),
    ],
)
def test_a_length_of_time_is_said_in_its_two_greatest_units(length: float, said: str) -> None:
    assert spoken(length) == said
