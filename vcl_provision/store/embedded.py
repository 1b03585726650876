"""A PostgreSQL of our own, for whoever has none: made in a folder, started, stopped; it outlives who started it.

Who may connect: the server listens on one Unix socket and on nothing else. The socket lies in a folder of mode 0700
that belongs to the OS user as whom the server runs, so that only that user and root reach it; both could read the data
files anyway. Behind that door PostgreSQL asks nothing more (`trust`): it would keep nobody out, and root may so try
what each role may do. Root writes nothing into folders of the server's account, which could lead it astray by links.
"""

from __future__ import annotations

import contextlib
import fcntl
import shlex
import shutil
import socket
from collections.abc import Generator
from pathlib import Path

import psycopg

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import CommandFailed, Refused, TimedOut
from vcl_provision.store.cluster import (
    NAME,
    PORT,
    Cluster,
    find_cluster,
    make_socket_folder,
    new_cluster,
    own_folder,
    remembered_place,
    write_settings,
)
from vcl_provision.store.programs import Programs, find_programs, usable

PATIENCE = 120.0
"""Seconds to start; recovery after a crash replays what was not yet in the data files."""


def start(folder: Path, *, durable: bool = True) -> str:
    """Makes what is missing, starts the server if it does not run, and returns the DSN of its database `vcl`.

    The server goes on when the caller ends. After a crash it recovers. `durable=False` gives up what a power cut would
    lose, for speed: for tests only. Raises Refused, CommandFailed or TimedOut with what is in the way.
    """
    with _alone(folder):
        cluster = find_cluster(folder) or new_cluster(folder)
        up = Patience(PATIENCE).until(lambda: _up(cluster, durable=durable), "PostgreSQL to take connections")
        with up as conn:
            _create_database(conn)
        return cluster.dsn


def stop(folder: Path) -> None:
    """Ends the server in good order, its connections cut; nothing to do if it does not run."""
    with _alone(folder):
        cluster = find_cluster(folder)
        if cluster and cluster.data.exists():
            _stop(cluster)


def remove(folder: Path) -> None:
    """Stops the server and deletes its data, wherever they are; the folder itself stays."""
    with _alone(folder):
        cluster = find_cluster(folder)
        if cluster is None:
            return
        if (cluster.data / "PG_VERSION").exists():
            _stop(cluster)
        for path in (cluster.socket, cluster.place):
            shutil.rmtree(path, ignore_errors=True)
        remembered_place(folder).unlink(missing_ok=True)


def is_running(folder: Path) -> bool:
    """Whether the server in that folder takes connections."""
    cluster = find_cluster(folder)
    return cluster is not None and _answers(cluster)


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """One at a time: two who start the same lab find one server."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "postgres.lock").open("w")
    except OSError as no:
        raise Refused(f"cannot keep a database in {folder}: {no.strerror}", "choose another folder") from no
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(cluster: Cluster, *, durable: bool) -> None:
    programs = _programs(cluster)
    if not (cluster.data / "PG_VERSION").exists():
        _init(cluster, programs)
    make_socket_folder(cluster)
    conf = write_settings(cluster, durable=durable)
    _forget_dead(cluster)
    log = cluster.data / "server.log"
    written = log.stat().st_size if log.exists() else 0
    arguments = ["start", "-D", str(cluster.data), "-l", str(log), "-w", "-t", f"{PATIENCE:.0f}", "-s"]
    arguments += ["-o", f"-c config_file={shlex.quote(str(conf))}"]
    try:
        programs.run("pg_ctl", arguments, account=cluster.account, seconds=PATIENCE + 10)
    except CommandFailed as no:
        raise Refused(f"PostgreSQL does not start: {_last_words(log, written) or no.said}", f"see {log}") from no


def _programs(cluster: Cluster) -> Programs:
    """Those that wrote the data, if there are data: another version's cannot read them."""
    try:
        major = int((cluster.data / "PG_VERSION").read_text())
    except FileNotFoundError:
        major = None
    return usable(find_programs(major), cluster.account, cluster.place)


def _init(cluster: Cluster, programs: Programs) -> None:
    """Collation C, in which every version and every machine sorts alike, whatever locales it has."""
    half = cluster.data.with_name("data.half")
    shutil.rmtree(half, ignore_errors=True)
    own_folder(half, cluster.account)
    arguments = ["-D", str(half), "-U", NAME, "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
    programs.run("initdb", arguments, account=cluster.account, seconds=PATIENCE)
    cluster.data.rmdir()
    half.rename(cluster.data)


def _server(cluster: Cluster) -> int | None:
    """The process that the data folder names as its server."""
    try:
        return int((cluster.data / "postmaster.pid").read_text().split(maxsplit=1)[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _forget_dead(cluster: Cluster) -> None:
    """After a hard end, the number in the pid file may be another process's, for which PostgreSQL would not start.

    The file goes only if nobody works in the folder any more: the dead server's own processes may outlive it a moment.
    Where the kernel does not tell who works where, PostgreSQL's own judgement stands.
    """
    if _server(cluster) is None or not Path("/proc/self/cwd").exists():
        return
    if _server(cluster) not in _working_in(cluster.data):
        Patience(30).until(lambda: not _working_in(cluster.data), f"a dead server's processes in {cluster.data} to end")
        (cluster.data / "postmaster.pid").unlink(missing_ok=True)
        (cluster.socket / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


def _working_in(data: Path) -> set[int]:
    """A server and all its processes have the data folder as their working directory."""
    found: set[int] = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink() == data.resolve():
                found.add(int(link.parent.name))
    return found


def _answers(cluster: Cluster) -> bool:
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(5)
        try:
            asked.connect(str(cluster.socket / f".s.PGSQL.{PORT}"))
        except OSError:
            return False
    return True


def _up(cluster: Cluster, *, durable: bool) -> psycopg.Connection | None:
    """None while it recovers, or if it just died: then the next look starts it."""
    if not _answers(cluster):
        _start(cluster, durable=durable)
    try:
        return psycopg.connect(cluster.dsn_of("postgres"), autocommit=True)
    except psycopg.OperationalError:
        return None


def _create_database(conn: psycopg.Connection) -> None:
    if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone() is None:
        conn.execute("CREATE DATABASE vcl")


def _stop(cluster: Cluster) -> None:
    _forget_dead(cluster)
    if _server(cluster) is None:
        return
    programs = _programs(cluster)
    try:
        _end(cluster, programs, "fast")
    except (CommandFailed, TimedOut):
        if _server(cluster) is not None:
            _end(cluster, programs, "immediate")


def _end(cluster: Cluster, programs: Programs, mode: str) -> None:
    arguments = ["stop", "-D", str(cluster.data), "-m", mode, "-w", "-t", "60", "-s"]
    programs.run("pg_ctl", arguments, account=cluster.account, seconds=70)


def _last_words(log: Path, since: int) -> str:
    """Why the server ended, in what it wrote since the log had so many bytes."""
    try:
        lines = log.read_bytes()[since:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in reversed(lines) if "FATAL" in line or "PANIC" in line), "")
