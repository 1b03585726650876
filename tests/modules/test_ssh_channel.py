"""Commands and files over ssh, against a real OpenSSH server."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fix_channels import Heard, cancel_once_written
from fix_sshd import Sshd

from vcl_provision.channels.keys import new_host_key, new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.ssh import SshChannel
from vcl_provision.channels.transport import connect
from vcl_provision.model.faults import (
    Cancelled,
    CommandFailed,
    ConnectionDropped,
    Refused,
    TimedOut,
    Transient,
    WrongHostKey,
)

Gone = Callable[[int], bool]


@pytest.fixture
def channel(sshd: Sshd, heard: Heard, patience: Patience) -> Iterator[SshChannel]:
    channel = SshChannel(connect(sshd.peer(), sshd.key, patience), where="loop", audit=heard)
    yield channel
    channel.close()


def test_a_command_answers_with_status_and_both_streams(channel: SshChannel, patience: Patience) -> None:
    ran = channel.run(["sh", "-c", "echo out; echo err >&2; exit 3"], patience=patience, accept=(0, 3))
    assert (ran.status, ran.stdout, ran.stderr) == (3, "out\n", "err\n")


def test_a_status_that_is_not_accepted_raises_with_the_last_line(channel: SshChannel, patience: Patience) -> None:
    with pytest.raises(CommandFailed, match="look on loop ended with status 2: no such user"):
        channel.run(["sh", "-c", "echo no such user >&2; exit 2"], patience=patience, name="look")


def test_a_program_that_is_not_there_is_status_127(channel: SshChannel, patience: Patience) -> None:
    assert channel.run(["no-such-program"], patience=patience, accept=(127,)).status == 127


def test_a_command_that_a_signal_ends_has_a_status_of_its_own(channel: SshChannel, patience: Patience) -> None:
    assert channel.run(["sh", "-c", "kill -KILL $$"], patience=patience, accept=(255,)).status == 255
    assert channel.alive


def test_arguments_arrive_as_they_are(channel: SshChannel, patience: Patience) -> None:
    nasty = [
        "$(id)",
        "`id`",
        "a b",
        "'",
        '"',
        "'\"'",
        "*",
        "~",
        "-n",
        "\n",
        "\\",
        "\\'",
        "ä;|&",
        "",
        "#",
        "!!",
        "{a,b}",
    ]
    said = channel.run([sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *nasty], patience=patience)
    assert said.stdout.strip() == ascii(nasty)


def test_a_nul_byte_is_refused(channel: SshChannel, patience: Patience) -> None:
    with pytest.raises(Refused, match="NUL"):
        channel.run(["echo", "a\0b"], patience=patience)


def test_the_environment_there_is_ours(channel: SshChannel, patience: Patience) -> None:
    said = channel.run(["sh", "-c", 'echo "$LANG $PATH"; [ -n "$SSH_CONNECTION" ]'], patience=patience)
    assert said.stdout == "C.UTF-8 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"


def test_input_reaches_the_command_and_none_is_an_end_at_once(channel: SshChannel, patience: Patience) -> None:
    content = os.urandom(5 * 1024 * 1024)  # more than the window that the server opens
    assert channel.run(["wc", "-c"], patience=patience, stdin=content).stdout.strip() == str(len(content))
    assert channel.run(["cat"], patience=patience).stdout == ""


def test_a_command_that_does_not_read_its_input_is_no_error(channel: SshChannel, patience: Patience) -> None:
    assert channel.run(["true"], patience=patience, stdin=b"x" * 3 * 1024 * 1024).status == 0


def test_three_mebibytes_on_both_streams_are_drained(channel: SshChannel, patience: Patience) -> None:
    script = "import sys\nfor s in (sys.stderr, sys.stdout): s.write('x' * (3 << 20)); s.write('end'); s.flush()"
    ran = channel.run([sys.executable, "-c", script], patience=patience)
    for text in (ran.stdout, ran.stderr):
        assert text.endswith("xend")
        assert len(text) < 300 * 1024


def test_the_deadline_kills_the_grandchildren_too(
    channel: SshChannel, heard: Heard, gone: Gone, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = 'echo $$ >"$1"; sh -c \'trap "" TERM HUP; echo $$ >>"$1"; sleep 600\' vcl "$1" & wait'
    with pytest.raises(TimedOut, match="busy was not done after"):
        channel.run(["sh", "-c", script, "vcl", str(pids)], patience=Patience(4), name="busy")
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    assert all(gone(pid) for pid in started)
    assert heard.last.status == -9
    assert channel.run(["echo", "still there"], patience=Patience(20)).stdout == "still there\n"


def test_a_cancel_reaches_a_running_command(channel: SshChannel, gone: Gone, tmp_path: Path) -> None:
    patience, pid = Patience(60), tmp_path / "pid"
    cancelling = cancel_once_written(pid, patience)
    with pytest.raises(Cancelled):
        channel.run(["sh", "-c", 'echo $$ >"$1"; exec sleep 600', "vcl", str(pid)], patience=patience)
    cancelling.join()
    assert gone(int(pid.read_text()))
    assert patience.remaining > 0


def test_a_cancel_at_the_very_start_leaves_nothing_running(channel: SshChannel, gone: Gone, tmp_path: Path) -> None:
    patience, pid = Patience(60), tmp_path / "pid"
    threading.Timer(0.002, patience.cancel).start()
    with pytest.raises(Cancelled):
        channel.run(["sh", "-c", 'echo $$ >"$1"; exec sleep 600', "vcl", str(pid)], patience=patience)
    assert not pid.exists() or not pid.read_text() or gone(int(pid.read_text()))


def test_a_connection_that_drops_in_the_middle_says_so(sshd: Sshd, heard: Heard, patience: Patience) -> None:
    channel = SshChannel(connect(sshd.peer(), sshd.key, patience), where="loop", audit=heard)
    threading.Timer(0.5, sshd.drop_connections).start()
    with pytest.raises(ConnectionDropped, match="the connection to loop dropped while load ran there"):
        channel.run(["sleep", "30"], patience=patience, name="load")
    assert not channel.alive
    with pytest.raises(ConnectionDropped):
        channel.run(["true"], patience=patience)
    channel.close()


def test_fifty_commands_go_over_one_connection(channel: SshChannel, sshd: Sshd, patience: Patience) -> None:
    connections = {process.pid for process in sshd.children}
    for number in range(50):
        assert channel.run(["echo", str(number)], patience=patience).stdout == f"{number}\n"
    assert {process.pid for process in sshd.children} <= connections


def test_twenty_commands_at_once_are_all_done(channel: SshChannel, patience: Patience) -> None:
    """sshd refuses the eleventh session, so some must wait for their turn."""
    script = ["sh", "-c", 'sleep 0.2; echo "$1"', "vcl"]
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(channel.run, [*script, str(number)], patience=patience) for number in range(20)]
    assert [one.result().stdout for one in asked] == [f"{number}\n" for number in range(20)]


def test_a_file_is_put_whole_with_its_mode(channel: SshChannel, patience: Patience, tmp_path: Path) -> None:
    path = tmp_path / "it's a $key"
    path.write_text("old")
    content = os.urandom(300_000)
    channel.put(str(path), content, mode=0o640, patience=patience)
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_nothing(channel: SshChannel, patience: Patience, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CommandFailed, match="put /dev/full/x"):
        channel.put("/dev/full/x", b"new", mode=0o600, patience=patience)


def test_a_file_whose_sender_dies_is_not_replaced(sshd: Sshd, patience: Patience, tmp_path: Path) -> None:
    path = tmp_path / "whole"
    path.write_text("old")
    channel = SshChannel(connect(sshd.peer(), sshd.key, patience), where="loop")

    def half_there() -> bool:
        return any(file.stat().st_size for file in tmp_path.iterdir() if file != path)

    def drop() -> None:
        patience.until(half_there, "a part of the file", every=0.001)
        sshd.drop_connections()

    dropping = threading.Thread(target=drop)
    dropping.start()
    with pytest.raises(ConnectionDropped):
        channel.put(str(path), b"n" * 50_000_000, mode=0o600, patience=patience)
    dropping.join()
    channel.close()
    patience.until(lambda: list(tmp_path.iterdir()) == [path], "the part to be cleared away")
    assert path.read_text() == "old"


def test_another_host_key_is_refused(sshd: Sshd, patience: Patience) -> None:
    with pytest.raises(WrongHostKey, match=r"loop at 127\.0\.0\.1 answered with another host key: ssh-ed25519 "):
        connect(sshd.peer(host_key=new_host_key().public), sshd.key, patience)


def test_a_host_key_of_another_type_is_refused(sshd: Sshd, patience: Patience) -> None:
    with pytest.raises(WrongHostKey, match="a key of another type"):
        connect(sshd.peer(host_key="ssh-rsa AAAAB3NzaC1yc2E="), sshd.key, patience)


@pytest.mark.parametrize("pinned", ["ssh-dss AAAA", "nonsense", "ssh-ed25519"])
def test_a_pin_that_is_no_key_is_refused(sshd: Sshd, patience: Patience, pinned: str) -> None:
    with pytest.raises(Refused):
        connect(sshd.peer(host_key=pinned), sshd.key, patience)


def test_a_server_that_does_not_know_our_key_may_know_it_later(sshd: Sshd, patience: Patience) -> None:
    with pytest.raises(Transient, match=r"does not let .* in with the management key"):
        connect(sshd.peer(), new_key(), patience)
