"""How much of a disk stays free, and what is said when something does not fit."""

from __future__ import annotations

import pytest

from vcl_provision.model.faults import Refused
from vcl_provision.model.space import Space

GB = 1 << 30


def disk(total: int, free: int) -> Space:
    return Space(path="/masters", total=total, free=free)


@pytest.mark.parametrize(("total", "kept"), [(10 * GB, GB // 5), (50 * GB, GB), (9000 * GB, GB)])
def test_a_fiftieth_stays_free_but_no_more_than_a_gigabyte(total: int, kept: int) -> None:
    assert disk(total, 0).kept() == kept


def test_what_a_profile_says_wins_also_if_it_says_none() -> None:
    assert disk(50 * GB, 0).kept(20480) == 20 * GB
    assert disk(50 * GB, 0).kept(0) == 0


def test_what_fits_beside_what_stays_free_is_admitted_and_a_byte_more_is_not() -> None:
    space = disk(100 * GB, 30 * GB)
    space.require(10 * GB, keep_free_mb=20480)
    with pytest.raises(Refused, match=f"/masters is full: {30 * GB} bytes are free, {10 * GB + 1} are needed and"):
        space.require(10 * GB + 1, keep_free_mb=20480)


def test_who_needs_nothing_is_admitted_to_a_full_disk() -> None:
    disk(100 * GB, 0).require(0)
