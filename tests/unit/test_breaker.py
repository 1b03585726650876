"""One VM host that hangs costs its own reservations only."""

from __future__ import annotations

from vcl_provision.daemon.breaker import Breakers


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def away(breakers: Breakers, host: int, times: int) -> None:
    for _ in range(times):
        breakers.was_away(host)


def test_a_host_is_left_alone_only_after_so_many_failures_in_a_row() -> None:
    breakers = Breakers(failures=3, cooldown=30, clock=Clock())
    away(breakers, 1, 2)
    breakers.answered(1)
    away(breakers, 1, 2)
    assert breakers.closed_hosts([]) == []
    breakers.was_away(1)
    assert breakers.closed_hosts([]) == [1]


def test_other_hosts_go_on() -> None:
    breakers = Breakers(failures=1, cooldown=30, clock=Clock())
    breakers.was_away(1)
    breakers.answered(2)
    assert breakers.closed_hosts([2]) == [1]


def test_after_the_cooldown_one_piece_of_work_tries_and_the_others_wait_for_its_result() -> None:
    clock = Clock()
    breakers = Breakers(failures=1, cooldown=30, clock=clock)
    breakers.was_away(1)
    clock.now += 31
    assert breakers.closed_hosts([]) == []
    assert breakers.closed_hosts([1]) == [1]
    breakers.was_away(1)
    assert breakers.closed_hosts([]) == [1]
    clock.now += 31
    breakers.answered(1)
    assert breakers.closed_hosts([1]) == []
