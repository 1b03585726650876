"""Things that cost much to open are opened once."""

from __future__ import annotations

from vcl_provision.daemon.kept import KeptThings


class Opened:
    def __init__(self) -> None:
        self.made = 0
        self.closed: list[int] = []

    def make(self) -> int:
        self.made += 1
        return self.made

    def close(self, which: int) -> None:
        self.closed.append(which)


def test_two_who_ask_get_the_same() -> None:
    kept, opened = KeptThings(), Opened()
    assert kept.get("a", opened.make, opened.close) == kept.get("a", opened.make, opened.close) == 1


def test_what_was_dropped_is_closed_and_made_anew() -> None:
    kept, opened = KeptThings(), Opened()
    kept.get("a", opened.make, opened.close)
    kept.drop("a")
    kept.drop("a")
    assert opened.closed == [1]
    assert kept.get("a", opened.make, opened.close) == 2


def test_one_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    kept, opened = KeptThings(), Opened()

    def refuse(_which: int) -> None:
        raise OSError("gone already")

    kept.get("a", opened.make, refuse)
    kept.get("b", opened.make, opened.close)
    kept.close()
    assert opened.closed == [2]
