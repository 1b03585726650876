"""The embedded PostgreSQL: it outlives who started it, recovers, and lets nobody else in."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from vcl_provision.model.faults import Refused
from vcl_provision.store import embedded, programs
from vcl_provision.store.cluster import Cluster, find_cluster

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Path]:
    """A data folder whose server is gone afterwards, whatever happens."""
    yield tmp_path
    embedded.remove(tmp_path)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """The folder of a server that runs, for tests that leave it running."""
    made = tmp_path_factory.mktemp("running")
    embedded.start(made, durable=False)
    yield made
    embedded.remove(made)


def cluster_of(folder: Path) -> Cluster:
    cluster = find_cluster(folder)
    assert cluster
    return cluster


def server_of(folder: Path) -> psutil.Process:
    pid = int((cluster_of(folder).data / "postmaster.pid").read_text().split()[0])
    return psutil.Process(pid)


def ask(dsn: str, question: str) -> object:
    with psycopg.connect(dsn) as conn:
        return conn.execute(question.encode()).fetchall()[0][0]


def tell(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(statement.encode())


def test_it_starts_from_nothing_and_is_ready_when_start_returns(folder: Path) -> None:
    assert not embedded.is_running(folder)
    dsn = embedded.start(folder, durable=False)
    assert ask(dsn, "SELECT current_database() || current_setting('server_encoding')") == "vclUTF8"
    assert embedded.is_running(folder)


def test_starting_what_runs_changes_nothing(running: Path) -> None:
    dsn, server = embedded.start(running), server_of(running)
    assert embedded.start(running) == dsn
    assert server_of(running) == server


def test_stop_keeps_the_data_and_start_finds_them(folder: Path) -> None:
    tell(embedded.start(folder), "CREATE TABLE kept AS SELECT 7 AS seven")
    embedded.stop(folder)
    assert not embedded.is_running(folder)
    embedded.stop(folder)
    assert ask(embedded.start(folder), "SELECT seven FROM kept") == 7


def test_it_is_durable_unless_told_otherwise(folder: Path) -> None:
    assert ask(embedded.start(folder), "SELECT current_setting('fsync')") == "on"
    embedded.stop(folder)
    assert ask(embedded.start(folder, durable=False), "SELECT current_setting('fsync')") == "off"


def test_it_outlives_the_process_that_started_it(folder: Path) -> None:
    script = "import sys, pathlib; from vcl_provision.store import embedded; embedded.start(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", script, folder], check=True, timeout=60, start_new_session=True)
    assert embedded.is_running(folder)
    assert server_of(folder).ppid() == 1 or server_of(folder).parent() != psutil.Process()


def test_killed_hard_it_recovers_what_was_committed(folder: Path) -> None:
    tell(embedded.start(folder), "CREATE TABLE kept AS SELECT 7 AS seven")
    server_of(folder).kill()
    assert ask(embedded.start(folder), "SELECT seven FROM kept") == 7


def test_a_pid_file_that_names_somebody_else_by_now_is_not_believed(folder: Path) -> None:
    embedded.start(folder, durable=False)
    os.kill(server_of(folder).pid, signal.SIGKILL)
    pid_file = cluster_of(folder).data / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    with subprocess.Popen(["sleep", "60"]) as somebody:
        pid_file.write_text(f"{somebody.pid}\n" + "".join(lines[1:]))
        assert ask(embedded.start(folder), "SELECT 1") == 1
        assert somebody.poll() is None
        somebody.kill()


def test_two_who_start_it_at_once_find_one_server(folder: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(embedded.start(folder, durable=False))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]


def test_it_listens_on_no_network(running: Path) -> None:
    dsn = embedded.start(running)
    assert ask(dsn, "SELECT current_setting('listen_addresses')") == ""
    assert not [one for one in server_of(running).net_connections(kind="inet") if one.status == psutil.CONN_LISTEN]


def test_only_its_own_user_and_root_reach_the_socket_and_the_data(running: Path) -> None:
    cluster = cluster_of(running)
    for private in (cluster.socket, cluster.data):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert private.stat().st_uid == cluster.account.uid
    assert stat.S_IMODE(cluster.place.stat().st_mode) & 0o007 == 0


@pytest.mark.skipif(not AS_ROOT, reason="only root can try as somebody else")
def test_another_user_of_the_machine_is_kept_out(running: Path) -> None:
    dsn = embedded.start(running)
    socket = conninfo_to_dict(dsn)["host"]
    probe = f"import socket; socket.socket(socket.AF_UNIX).connect('{socket}/.s.PGSQL.5432')"
    python = "/usr/bin/python3"
    for user in ("nobody", "daemon"):
        tried = subprocess.run(
            [python, "-c", probe],
            user=user,
            group=user if user == "daemon" else "nogroup",
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "PermissionError" in tried.stderr, user


@pytest.mark.skipif(not AS_ROOT, reason="only root needs another user")
def test_started_by_root_it_runs_as_somebody_else_and_root_gets_in(running: Path) -> None:
    dsn = embedded.start(running)
    assert server_of(running).username() in programs.ACCOUNTS
    assert ask(dsn, "SELECT current_user") == "vcl"


@pytest.mark.skipif(not AS_ROOT, reason="only root needs another user")
def test_a_folder_that_the_server_cannot_enter_keeps_its_permissions(folder: Path) -> None:
    folder.chmod(0o700)
    before = [(path, path.stat().st_mode) for path in [folder, *folder.parents]]
    embedded.start(folder, durable=False)
    assert [(path, path.stat().st_mode) for path in [folder, *folder.parents]] == before
    assert not cluster_of(folder).place.is_relative_to(folder)
    assert (folder / "postgres.place").read_text() == str(cluster_of(folder).place)


@pytest.mark.skipif(not AS_ROOT, reason="only root reads another's word for where to delete")
def test_a_place_outside_the_known_one_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "postgres.place").write_text("/etc")
    with pytest.raises(Refused, match="names /etc"):
        embedded.remove(tmp_path)


@pytest.mark.skipif(not AS_ROOT, reason="only root can run it as nobody")
def test_as_nobody_and_with_programs_it_may_not_reach_it_runs_from_a_copy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine without a user `postgres`, in a virtual environment below a private home."""
    private = folder / "home"
    found = programs.find_programs()
    site = found.folder.parents[2]
    (private / "site").mkdir(parents=True, mode=0o700)
    for part in (programs.BUNDLE, f"{programs.BUNDLE}.libs"):
        subprocess.run(["cp", "-r", site / part, private / "site" / part], check=True)
    private.chmod(0o700)
    moved = replace(found, folder=private / "site" / found.folder.relative_to(site))

    def find_moved(_major: int | None) -> programs.Programs:
        return moved

    monkeypatch.setattr(embedded, "find_programs", find_moved)
    monkeypatch.setattr(programs, "ACCOUNTS", ("nobody",))
    dsn = embedded.start(folder, durable=False)
    assert ask(dsn, "SELECT 1") == 1
    assert server_of(folder).username() == "nobody"
    assert server_of(folder).gids().real == programs.GROUP_OF_NOBODY
    assert Path(server_of(folder).exe()).is_relative_to(cluster_of(folder).place)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_path_too_long_for_a_socket_gets_a_short_one(folder: Path) -> None:
    deep = folder / ("a" * 60 + " it's") / ("b" * 60)
    try:
        dsn = embedded.start(deep, durable=False)
        assert ask(dsn, "SELECT 1") == 1
        assert str(cluster_of(deep).socket).startswith("/tmp/vcl-") or AS_ROOT
        embedded.stop(deep)
        cluster_of(deep).socket.rmdir() if cluster_of(deep).socket.exists() else None
        assert embedded.start(deep, durable=False) == dsn
    finally:
        embedded.remove(deep)


def test_a_first_start_that_was_killed_is_made_anew(folder: Path) -> None:
    embedded.start(folder, durable=False)
    embedded.stop(folder)
    (cluster_of(folder).data / "PG_VERSION").unlink()
    for path in sorted(cluster_of(folder).data.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    (cluster_of(folder).place / "data.half").mkdir()
    assert ask(embedded.start(folder, durable=False), "SELECT 1") == 1


def test_data_of_a_version_without_programs_are_refused_by_name(folder: Path) -> None:
    embedded.start(folder, durable=False)
    embedded.stop(folder)
    version = cluster_of(folder).data / "PG_VERSION"
    kept = version.read_text()
    version.write_text("13\n")
    try:
        with pytest.raises(Refused, match="PostgreSQL 13"):
            embedded.start(folder)
    finally:
        version.write_text(kept)


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    embedded.start(folder, durable=False)
    embedded.stop(folder)
    conf = cluster_of(folder).data / "postgresql.conf"
    kept = conf.read_text()
    conf.write_text(kept + "shared_buffers = lots\n")
    with pytest.raises(Refused, match=r"PostgreSQL does not start: .*FATAL: .* contains errors") as caught:
        embedded.start(folder)
    assert "server.log" in caught.value.hint
    conf.write_text(kept)
    assert ask(embedded.start(folder), "SELECT 1") == 1


def test_what_the_caller_has_in_its_environment_does_not_reach_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "example.org", "PGUSER": "x", "PGDATABASE": "y"}.items():
        monkeypatch.setenv(name, value)
    assert ask(embedded.start(folder, durable=False), "SELECT current_database()") == "vcl"


def test_remove_leaves_nothing(folder: Path) -> None:
    embedded.start(folder, durable=False)
    cluster, server = cluster_of(folder), server_of(folder)
    embedded.remove(folder)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not cluster.place.exists()
    assert find_cluster(folder) is None


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot keep a database"):
        embedded.start(tmp_path / "file" / "below")


def test_the_newest_programs_come_first_and_the_packages_before_the_systems() -> None:
    found = programs.find_programs()
    assert programs.BUNDLE in found.folder.parts
    assert found.major >= programs.OLDEST


@pytest.mark.skipif(not AS_ROOT, reason="only root can be refused another's data by pretending")
def test_the_account_is_that_of_the_data_that_are_there(running: Path) -> None:
    owner = cluster_of(running).data.stat().st_uid
    assert cluster_of(running).account.name == pwd.getpwuid(owner).pw_name
