"""The place of an embedded PostgreSQL: which folders there are, whose they are, and what is written into them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from vcl_provision.model.faults import Refused
from vcl_provision.store.programs import Account, account_of, server_account

FALLBACK = Path("/var/lib/vcl-provision")
"""Where the data go if the server's account cannot enter the folder: nobody's permissions are loosened for it."""
PORT = 5432
"""Only a part of the socket's name."""
LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path, a limit of the kernel."""
NAME = "vcl"
"""Of the database, and of the role that owns it."""
IO_WORKERS_SINCE = 18
SMALL = {"io_method": "sync"}
"""What a lab's database reads is in memory after an hour: three processes that read ahead would only lie there."""
LOOSE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One server's place: `data`, `socket`, perhaps a copy of the programs."""

    place: Path
    account: Account

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def socket(self) -> Path:
        """The folder of the socket: a short one elsewhere if the path here is too long for the kernel."""
        remembered = self.place / "socket.place"
        if remembered.exists():
            return Path(remembered.read_text())
        return self.place / "socket"

    @property
    def dsn(self) -> str:
        return self.dsn_of(NAME)

    def dsn_of(self, database: str) -> str:
        return make_conninfo(host=str(self.socket), port=PORT, user=NAME, dbname=database)


def remembered_place(folder: Path) -> Path:
    return folder / "postgres.place"


def _place(folder: Path) -> Path:
    """Where the data are. Only a place below FALLBACK, which is root's, is believed: this one may be deleted."""
    remembered = remembered_place(folder)
    if not remembered.exists():
        return folder.resolve() / "postgres"
    place = Path(remembered.read_text())
    if place.parent != FALLBACK:
        raise Refused(f"{remembered} names {place}, which is not below {FALLBACK}", "remove that file")
    return place


def find_cluster(folder: Path) -> Cluster | None:
    """The one that was made before; None if there is none, or it was not finished."""
    place = _place(folder)
    try:
        owner = (place / "data").stat()
    except FileNotFoundError:
        return None
    except PermissionError as no:
        raise Refused(f"the database in {place} is another user's", "choose another folder") from no
    if os.geteuid() not in {0, owner.st_uid}:
        raise Refused(f"the database in {place} is another user's", "choose another folder, or work as that user")
    return Cluster(place=place, account=account_of(owner.st_uid, owner.st_gid))


def new_cluster(folder: Path) -> Cluster:
    account = server_account()
    place = folder.resolve() / "postgres"
    if account.switch and not account.may("-x", folder):
        place = FALLBACK / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        FALLBACK.mkdir(mode=0o755, parents=True, exist_ok=True)
        remembered_place(folder).write_text(str(place))
    cluster = Cluster(place=place, account=account)
    if not place.exists():
        place.mkdir(mode=0o700)
        _let_pass(place, account)
    own_folder(cluster.data, account)
    return cluster


def _let_pass(place: Path, account: Account) -> None:
    """Root keeps the place; the server's account may go through it, nobody else."""
    if account.switch:
        os.chown(place, 0, account.gid)
        place.chmod(0o710)


def own_folder(path: Path, account: Account) -> None:
    """A folder of mode 0700 that is the server's account's. Raises Refused if somebody else's stands there."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if found.st_uid not in {os.geteuid(), account.uid} or path.is_symlink():
        raise Refused(f"{path} is in the way: it is not ours", "remove it")
    if account.switch:
        os.chown(path, account.uid, account.gid)
    path.chmod(0o700)


def make_socket_folder(cluster: Cluster) -> None:
    too_long = len(os.fsencode(cluster.place / "socket" / f".s.PGSQL.{PORT}")) > LONGEST_SOCKET
    remembered = cluster.place / "socket.place"
    if too_long and not remembered.exists():
        short = tempfile.mkdtemp(prefix="vcl-", dir="/tmp")
        remembered.write_text(short)
    own_folder(cluster.socket, cluster.account)


def write_settings(cluster: Cluster, *, durable: bool) -> Path:
    """Ours on top of what initdb chose for the machine."""
    door = cluster.place / "pg_hba.conf"
    settings = {
        "hba_file": str(door),
        "listen_addresses": "",
        "unix_socket_directories": str(cluster.socket),
        "port": str(PORT),
        "max_connections": "100",
        "wal_buffers": "1MB",
        "max_logical_replication_workers": "0",
        **(SMALL if _major(cluster) >= IO_WORKERS_SINCE else {}),
        **({} if durable else LOOSE),
    }
    lines = [f"include {_quoted(str(cluster.data / 'postgresql.conf'))}"]
    lines += [f"{key} = {_quoted(value)}" for key, value in settings.items()]
    _write(door, "local all all trust\n", cluster.account)
    return _write(cluster.place / "postgresql.conf", "\n".join(lines) + "\n", cluster.account)


def _major(cluster: Cluster) -> int:
    return int((cluster.data / "PG_VERSION").read_text())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _write(path: Path, text: str, account: Account) -> Path:
    path.write_text(text)
    if account.switch:
        os.chown(path, 0, account.gid)
    path.chmod(0o640)
    return path
