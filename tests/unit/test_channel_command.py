"""What channels do alike with commands: quoting, keeping the end, judging the status."""

from __future__ import annotations

import random
import shlex

import pytest

from vcl_provision.channels.command import Tail, judged
from vcl_provision.channels.ssh import quoted
from vcl_provision.model.faults import CommandFailed, Ran, Refused

NASTY = " \t\n\r'\"\\`$(){}[]<>|&;*?~#!=%^-+,.:@/aZ09äß\u2028\x7f\x1b"


@pytest.mark.parametrize("seed", range(50))
def test_a_shell_reads_back_what_was_quoted(seed: int) -> None:
    chance = random.Random(seed)
    argv = ["".join(chance.choices(NASTY, k=chance.randrange(12))) for _ in range(chance.randrange(1, 8))]
    assert shlex.split(quoted(argv)) == argv


def test_a_nul_byte_is_refused() -> None:
    with pytest.raises(Refused, match="NUL"):
        quoted(["echo", "a\0b"])


def test_the_end_is_kept_and_the_rest_counted() -> None:
    tail = Tail(keep=10)
    for piece in (b"0123456789", b"abc", b"", b"defghij"):
        tail.add(piece)
    assert tail.text() == "[10 bytes left out]\nabcdefghij"


def test_what_fits_is_kept_whole() -> None:
    tail = Tail(keep=10)
    tail.add(b"0123")
    tail.add(b"456789")
    assert tail.text() == "0123456789"


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    tail = Tail()
    tail.add(b"a\xffb")
    assert tail.text() == "a\ufffdb"


def test_a_failed_command_says_its_last_line() -> None:
    with pytest.raises(CommandFailed) as failed:
        judged(Ran(argv=["load"], status=1, stdout="out\n", stderr="first\nlast \n\n"), "vm-1", (0,))
    assert failed.value.said == "load on vm-1 ended with status 1: last"


def test_a_failed_command_that_said_nothing_is_said_so() -> None:
    with pytest.raises(CommandFailed, match="ended with status 7: and said nothing"):
        judged(Ran(argv=["load"], status=7), "vm-1", (0,))
