"""Checksums taken beside a transfer."""

from __future__ import annotations

import hashlib

import pytest

from vcl_provision.images.repository import Blob
from vcl_provision.images.repository.sums import ALGORITHMS, Summing, is_whole, known, named

ABC = {  # FIPS 180-4's example, and b3sum's answer to the same
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "blake3": "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
}
BLOB = Blob(bytes=3, **ABC)


def test_what_was_added_is_summed_in_its_order() -> None:
    with Summing(ALGORITHMS) as own:
        for letter in b"abc":
            own.add(bytes([letter]))
        assert own.found() == ABC


def test_a_room_may_be_used_again_once_the_next_chunk_was_added() -> None:
    rooms = [bytearray(1 << 16) for _ in range(2)]
    whole = hashlib.sha256()
    with Summing(["sha256"]) as own:
        for number in range(100):
            room = rooms[number % 2]
            room[:] = bytes([number]) * len(room)
            whole.update(room)
            own.add(memoryview(room))
        assert own.found() == {"sha256": whole.hexdigest()}


def test_a_copy_is_known_by_its_quicker_sum_and_a_stranger_by_all() -> None:
    assert known(BLOB).sums == {"blake3": ABC["blake3"]}
    assert known(Blob(sha256=ABC["sha256"], bytes=3)).sums == {"sha256": ABC["sha256"]}
    assert named(BLOB).sums == ABC


@pytest.mark.parametrize("content", [b"abd", b"ab", b"abcd", b""])
def test_another_content_is_not_it(content: bytes) -> None:
    heard = list[int]()
    for expected in (known(BLOB), named(BLOB)):
        assert is_whole([memoryview(b"abc")], expected, heard.append)
        assert not is_whole([memoryview(content)], expected, heard.append)
    assert heard == [3, len(content)] * 2
