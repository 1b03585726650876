"""What machines may fetch is kept for all management nodes, is taken once, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from a_lab import Lab, a_lab

from vcl_provision.images.carriers.pull import Offer, OfferState
from vcl_provision.store import firstboot_tokens
from vcl_provision.store.database import Connection, Database

TOKEN, OTHER = b"a" * 32, b"b" * 32


@pytest.fixture
def lab(conn: Connection) -> Lab:
    return a_lab(conn)


@pytest.fixture
def offer(conn: Connection, lab: Lab) -> Offer:
    one = Offer(
        computer_id=lab.computers[0], mac="52:54:00:00:00:0a", address="10.0.0.10", token_sha256=TOKEN, sealed=b"s"
    )
    firstboot_tokens.offer(conn, one, seconds=60)
    return one


def states(conn: Connection, *tokens: bytes) -> Sequence[OfferState | None]:
    found = [firstboot_tokens.find(conn, token) for token in tokens]
    return [one and one[1] for one in found]


def test_an_offer_is_found_as_it_was_made(conn: Connection, offer: Offer) -> None:
    assert firstboot_tokens.find(conn, TOKEN) == (offer, OfferState.GOOD)
    assert firstboot_tokens.find(conn, OTHER) is None


def test_an_offer_is_used_once_and_what_was_sealed_is_gone(conn: Connection, offer: Offer) -> None:
    assert [firstboot_tokens.use(conn, TOKEN) for _ in range(3)] == [True, False, False]
    assert firstboot_tokens.find(conn, TOKEN) == (replace(offer, sealed=b""), OfferState.USED)


def test_of_many_who_use_it_at_once_one_does(database: Database, offer: Offer) -> None:
    def use(_: int) -> bool:
        with database.session() as conn:
            return firstboot_tokens.use(conn, TOKEN)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, range(16))) == 1


def test_a_late_offer_cannot_be_used(conn: Connection, offer: Offer) -> None:
    firstboot_tokens.offer(conn, offer, seconds=0)
    assert states(conn, TOKEN) == [OfferState.LATE]
    assert not firstboot_tokens.use(conn, TOKEN)


def test_a_new_offer_for_a_computer_withdraws_the_one_before(conn: Connection, lab: Lab, offer: Offer) -> None:
    theirs = replace(offer, computer_id=lab.computers[1], token_sha256=b"c" * 32)
    firstboot_tokens.offer(conn, theirs, seconds=60)
    firstboot_tokens.offer(conn, replace(offer, token_sha256=OTHER), seconds=60)
    assert states(conn, TOKEN, OTHER, theirs.token_sha256) == [None, OfferState.GOOD, OfferState.GOOD]


def test_an_offer_that_is_made_twice_counts_from_the_second_time(conn: Connection, offer: Offer) -> None:
    """The answer of the first may have been lost on the way."""
    firstboot_tokens.use(conn, TOKEN)
    firstboot_tokens.offer(conn, offer, seconds=60)
    assert states(conn, TOKEN) == [OfferState.GOOD]


def test_what_nobody_fetched_is_forgotten_after_a_day(conn: Connection, lab: Lab, offer: Offer) -> None:
    conn.execute("UPDATE vcl.firstboot_token SET expires_at = vcl.now() - interval '25 hours'")
    firstboot_tokens.offer(conn, replace(offer, computer_id=lab.computers[1], token_sha256=OTHER), seconds=60)
    assert states(conn, TOKEN, OTHER) == [None, OfferState.GOOD]


def test_an_offer_goes_with_its_computer(conn: Connection, lab: Lab, offer: Offer) -> None:
    conn.execute("DELETE FROM vcl.computer WHERE id = %s", [offer.computer_id])
    assert states(conn, TOKEN) == [None]
