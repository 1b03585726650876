"""A real ssh server on the loopback address, with keys of its own; what runs under it is killed with it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import psutil
import pytest
from a_need import PLACES, need
from a_port import free_port

from vcl_provision.channels.keys import KeyPair, new_host_key, new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.transport import Peer

SSHD = shutil.which("sshd", path=PLACES)

CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""


@dataclass
class Sshd:
    """The server: where it is, who gets in. `start` it, `stop` it, drop its connections."""

    folder: Path
    port: int
    host: KeyPair = field(default_factory=new_host_key)
    key: KeyPair = field(default_factory=new_key)
    process: subprocess.Popen[bytes] | None = None

    def peer(self, *, host_key: str = "") -> Peer:
        return Peer(
            name="loop",
            address=IPv4Address("127.0.0.1"),
            port=self.port,
            user=getpass.getuser(),
            host_key=host_key or self.host.public,
        )

    def start(self) -> None:
        assert SSHD
        key = self.folder / "host_key"
        key.touch(mode=0o600)
        key.write_text(self.host.private.reveal())
        (self.folder / "authorized_keys").write_text(f"{self.key.public}\n")
        (self.folder / "config").write_text(CONFIG.format(folder=self.folder, port=self.port))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        log = str(self.folder / "log")
        self.process = subprocess.Popen(
            [SSHD, "-D", "-f", str(self.folder / "config"), "-E", log], start_new_session=True
        )
        Patience(20).until(self._listens, "sshd to listen", every=0.02)

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def children(self) -> list[psutil.Process]:
        assert self.process
        return psutil.Process(self.process.pid).children(recursive=True)

    def drop_connections(self) -> None:
        """Kills the processes that serve connections, as a guest's death does; what they had started runs on."""
        for process in self.children:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == "sshd":
                    process.kill()

    def stop(self) -> None:
        if not self.process:
            return
        for process in self.children:
            _unless_gone(process.kill)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None


def _unless_gone(act: Callable[[], None]) -> None:
    try:
        act()
    except psutil.NoSuchProcess:
        return


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    need("sshd")
    server = Sshd(folder=tmp_path_factory.mktemp("sshd"), port=free_port())
    server.start()
    yield server
    server.stop()
