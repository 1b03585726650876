"""A whole life, by the real daemon: from an inserted row to a user who is in, and back."""

from __future__ import annotations

from fix_daemon import DaemonLab


def test_a_reservation_lives_from_insert_to_the_computer_taken_back(dlab: DaemonLab) -> None:
    dlab.node().start()
    request = dlab.reserve()
    dlab.until_state(request, "inuse")
    dlab.end(request)
    dlab.until_state(request, "complete")
    assert dlab.ending(request) == "released"
    dlab.check_nothing_is_left()
