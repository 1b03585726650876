"""A namespace of one's own: what happens in it nobody sees, and nothing of it outlives who entered it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_need import need, need_root
from a_nobody import as_nobody, home
from a_process import gone, processes

from vcl_provision.channels.namespace import PrivateNamespace
from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import CommandFailed, Refused, TimedOut

PROGRAM = """
import sys
from vcl_provision.channels.namespace import PrivateNamespace
from vcl_provision.channels.patience import Patience
with PrivateNamespace() as inside:
    inside.run(("mount", "-t", "tmpfs", "tmpfs", sys.argv[1]), patience=Patience(60))
    inside.run(("sh", "-c", "sleep 1" + sys.argv[2] + " & echo > " + sys.argv[3] + "; sleep 60"), patience=Patience(60))
"""


@pytest.fixture(autouse=True)
def _allowed() -> None:
    need_root()
    need("unshare", "nsenter", "setpriv")


@pytest.fixture
def inside() -> Iterator[PrivateNamespace]:
    with PrivateNamespace() as channel:
        yield channel


def test_what_one_command_mounts_the_next_one_sees_and_nobody_else(inside: PrivateNamespace, tmp_path: Path) -> None:
    inside.run(("mount", "-t", "tmpfs", "tmpfs", str(tmp_path)), patience=Patience(60))
    inside.run(("touch", str(tmp_path / "file")), patience=Patience(60))
    assert inside.run(("ls", str(tmp_path)), patience=Patience(60)).stdout == "file\n"
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_processes_of_others_are_not_there(inside: PrivateNamespace) -> None:
    own = "ls -d /proc/[0-9]* | wc -l"
    assert int(inside.run(("sh", "-c", own), patience=Patience(60)).stdout) < 8


def test_a_command_is_judged_and_ended_as_on_any_channel(inside: PrivateNamespace) -> None:
    with pytest.raises(CommandFailed, match="status 3: no"):
        inside.run(("sh", "-c", "echo no >&2; exit 3"), patience=Patience(60))
    with pytest.raises(CommandFailed, match="status 127"):
        inside.run(("no-such-program",), patience=Patience(60))
    with pytest.raises(TimedOut):
        inside.run(("sleep", "60"), patience=Patience(0.2))
    assert inside.run(("cat",), stdin=b"said", patience=Patience(60)).stdout == "said"


def test_what_a_command_leaves_running_ends_with_the_namespace(tmp_path: Path) -> None:
    mark = f"1{time.monotonic_ns()}"
    with PrivateNamespace() as channel:
        channel.run(("sh", "-c", f"setsid sleep {mark} > /dev/null 2>&1 &"), patience=Patience(60))
        assert processes(mark)
    assert gone(mark)


def test_nothing_is_left_of_a_namespace_whose_process_was_killed(tmp_path: Path) -> None:
    mark, begun, place = str(time.monotonic_ns()), tmp_path / "begun", tmp_path / "place"
    place.mkdir()
    killed = subprocess.Popen((sys.executable, "-c", PROGRAM, str(place), mark, str(begun)))
    try:
        while killed.poll() is None and not begun.exists():
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    finally:
        killed.kill()
        killed.wait()
    assert gone(f"1{mark}")
    assert str(place) not in Path("/proc/self/mountinfo").read_text()


def test_without_further_ids_a_user_is_told_what_to_do() -> None:
    script = (
        "from vcl_provision.channels.namespace import PrivateNamespace\n"
        "from vcl_provision.model.faults import Refused\n"
        "try:\n"
        "    PrivateNamespace(rootless=True).__enter__()\n"
        "except Refused as no:\n"
        "    print(no.said, '|', no.hint)\n"
    )
    with home() as folder:
        ran = as_nobody((sys.executable, "-c", script), folder, ids=False)
    assert "no namespace of its own" in ran.stdout, ran
    assert "/etc/subuid" in ran.stdout


def test_it_has_to_be_entered() -> None:
    with pytest.raises(Refused, match="has not been entered"):
        PrivateNamespace().run(("true",), patience=Patience(1))
