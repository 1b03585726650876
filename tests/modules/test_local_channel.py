"""Commands and files on this machine: real processes, real pipes."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fix_channels import Heard, cancel_once_written

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Cancelled, CommandFailed, TimedOut

Gone = Callable[[int], bool]


@pytest.fixture
def local(heard: Heard) -> LocalChannel:
    return LocalChannel(audit=heard, where="here")


def test_a_command_answers_with_status_and_both_streams(local: LocalChannel, patience: Patience) -> None:
    ran = local.run(["sh", "-c", "echo out; echo err >&2; exit 3"], patience=patience, accept=(0, 3))
    assert (ran.status, ran.stdout, ran.stderr) == (3, "out\n", "err\n")


def test_a_status_that_is_not_accepted_raises_with_the_last_line(local: LocalChannel, patience: Patience) -> None:
    with pytest.raises(CommandFailed, match="sh on here ended with status 2: no such slot") as failed:
        local.run(["sh", "-c", "echo first >&2; echo no such slot >&2; exit 2"], patience=patience)
    assert failed.value.ran.status == 2


def test_a_program_that_is_not_there_is_status_127(local: LocalChannel, heard: Heard, patience: Patience) -> None:
    with pytest.raises(CommandFailed, match="no-such-program: No such file"):
        local.run(["no-such-program"], patience=patience)
    assert heard.last.status == 127


def test_nothing_is_inherited_but_what_is_named(monkeypatch: pytest.MonkeyPatch, patience: Patience) -> None:
    monkeypatch.setenv("VCL_SECRET", "x")
    channel = LocalChannel(environment={"XDG_RUNTIME_DIR": "/run/lab"})
    lines = channel.run(["env"], patience=patience).stdout.splitlines()
    assert sorted(line.partition("=")[0] for line in lines) == ["LANG", "PATH", "XDG_RUNTIME_DIR"]


def test_input_reaches_the_command_and_none_is_an_end_at_once(local: LocalChannel, patience: Patience) -> None:
    content = os.urandom(3 * 1024 * 1024)
    counted = local.run(["sh", "-c", "wc -c"], patience=patience, stdin=content)
    assert counted.stdout.strip() == str(len(content))
    assert local.run(["cat"], patience=patience).stdout == ""


def test_a_command_that_does_not_read_its_input_is_no_error(local: LocalChannel, patience: Patience) -> None:
    assert local.run(["true"], patience=patience, stdin=b"x" * 1024 * 1024).status == 0


def test_arguments_arrive_as_they_are(local: LocalChannel, patience: Patience) -> None:
    nasty = ["$(id)", "`id`", "a b", "'", '"', "*", "-n", "\n", "\\", "ä;|&", ""]
    said = local.run([sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *nasty], patience=patience)
    assert said.stdout.strip() == ascii(nasty)


def test_three_mebibytes_on_both_streams_are_drained_and_the_end_is_kept(
    local: LocalChannel, patience: Patience
) -> None:
    script = "import sys\nfor s in (sys.stderr, sys.stdout): s.write('x' * (3 << 20)); s.write('end'); s.flush()"
    ran = local.run([sys.executable, "-c", script], patience=patience)
    for text in (ran.stdout, ran.stderr):
        assert text.endswith("xend")
        assert text.startswith("[")
        assert len(text) < 300 * 1024


def test_the_deadline_kills_the_grandchildren_too(
    local: LocalChannel, heard: Heard, gone: Gone, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = 'echo $$ >"$1"; sh -c \'trap "" TERM HUP; echo $$ >>"$1"; sleep 600\' vcl "$1" & wait'
    with pytest.raises(TimedOut, match="busy was not done after"):
        local.run(["sh", "-c", script, "vcl", str(pids)], patience=Patience(2), name="busy")
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    assert all(gone(pid) for pid in started)
    assert (heard.last.status, heard.last.argv) == (-9, ("busy",))


def test_a_cancel_reaches_a_running_command(local: LocalChannel, gone: Gone, tmp_path: Path) -> None:
    patience, pid = Patience(60), tmp_path / "pid"
    cancelling = cancel_once_written(pid, patience)
    with pytest.raises(Cancelled):
        local.run(["sh", "-c", 'echo $$ >"$1"; exec sleep 600', "vcl", str(pid)], patience=patience)
    cancelling.join()
    assert gone(int(pid.read_text()))
    assert patience.remaining > 0


def test_a_daemon_left_running_does_not_hold_us(local: LocalChannel, patience: Patience, tmp_path: Path) -> None:
    """It keeps our pipes, as daemons do that were started carelessly."""
    ran = local.run(["sh", "-c", "setsid sleep 600 & echo $!"], patience=patience)
    daemon = int(ran.stdout)
    os.kill(daemon, 0)  # raises if the end of its parent had ended it
    os.kill(daemon, 9)


def test_a_signal_is_a_negative_status(local: LocalChannel, patience: Patience) -> None:
    assert local.run(["sh", "-c", "kill -TERM $$"], patience=patience, accept=(-15,)).status == -15


def test_the_audit_hears_of_questions_and_of_changes(local: LocalChannel, heard: Heard, patience: Patience) -> None:
    local.run(["true"], patience=patience, changes=False)
    local.run(["sh", "-c", "exit 1"], patience=patience, name="the whole script", accept=(1,))
    said = [(where, ran.argv, ran.status, changes) for where, ran, changes in heard.commands]
    assert said == [("here", ("true",), 0, False), ("here", ("the whole script",), 1, True)]


def test_no_file_stays_open_and_no_child_unreaped(local: LocalChannel, patience: Patience) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        local.run(["cat"], patience=patience, stdin=b"x")
    with pytest.raises(TimedOut):
        local.run(["sleep", "600"], patience=Patience(0.05))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE] == []


def test_a_file_is_put_whole_with_its_mode(local: LocalChannel, patience: Patience, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    local.put(str(path), b"new", mode=0o640, patience=patience)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


def test_a_file_that_cannot_be_written_leaves_nothing(local: LocalChannel, heard: Heard, patience: Patience) -> None:
    with pytest.raises(CommandFailed, match="cannot write /dev/full/x: Not a directory"):
        local.put("/dev/full/x", b"new", mode=0o600, patience=patience)
    assert heard.last.status == 1
