"""Real guests: built once into a cache, booted by bare QEMU, stopped whatever happens."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Self

import paramiko
import pytest
from a_cpu import CPU, EMULATED

from vcl_provision.channels.keys import KeyPair
from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder import cached_image, load_profile
from vcl_provision.images.carriers.nocloud import nocloud_iso
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.images.repository.loose import LooseImage, read_loose
from vcl_provision.model.faults import Refused, TimedOut

PROJECT = Path(__file__).parent.parent
DHCP_ACK = b"\x63\x82\x53\x63\x35\x01\x05"
"""RFC 2131's cookie, then the message type: what QEMU's DHCP server says last."""


def images_folder() -> Path:
    """Where images are kept from one run to the next: in VCL_CACHE, or `.cache` of the project."""
    return Path(os.environ.get("VCL_CACHE", PROJECT / ".cache")) / "images"


def stage_cache() -> Path:
    """What builds keep: what one has installed, the next one need not."""
    return images_folder() / "builder"


def built_image(profile: str) -> Path:
    """The folder of an image, from the cache."""
    try:
        return cached_image(load_profile(profile), images_folder(), patience=Patience(900), say=print)
    except Refused as no:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{no.said}: {no.hint}")


@pytest.fixture(scope="session")
def small_image() -> Path:
    """The folder of the guest that boots in seconds: what most tests need of a guest."""
    return built_image("small")


@pytest.fixture(scope="session")
def debian_image() -> Path:
    """The folder of the guest that people get: Debian with systemd."""
    return built_image("debian12")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command in a guest gave."""

    status: int
    stdout: str
    stderr: str


def _speaks(connection: socket.socket) -> bool:
    with suppress(ConnectionResetError):
        return connection.recv(4, socket.MSG_PEEK) == b"SSH-"
    return False


class BareGuest:
    """One guest under plain QEMU, reached by a port of loopback: the measure for loads.

    It is told `firstboot` by a NoCloud disk, or by what QEMU's arguments `carriers` bring. It is emulated, with the CPU
    that the libvirt module gives, unless QEMU's words for others are given.
    """

    def __init__(
        self,
        image: Path,
        folder: Path,
        firstboot: FirstBoot | None,
        management: KeyPair,
        *,
        carriers: Sequence[str] = (),
        accelerator: str = EMULATED,
        cpu: str = CPU,
    ) -> None:
        self._carriers = carriers
        self._hardware = ("-accel", accelerator, "-cpu", cpu)
        self._image, self._folder, self.firstboot = image, folder, firstboot
        self._key = paramiko.Ed25519Key.from_private_key(StringIO(management.private.reveal()))
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: paramiko.Transport | None = None
        self.port = _free_port()
        self.console = folder / "console.log"
        self._overlay, self._seed = folder / "overlay.qcow2", folder / "seed.iso"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def prepare(self) -> None:
        """Makes the overlay, if there is none yet, and the first-boot disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        base = read_loose(self._image).disk
        if not self._overlay.exists():
            argv = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(self._overlay))
            subprocess.run(argv, check=True)
        if self.firstboot is not None and not self._carriers:
            self._seed.write_bytes(nocloud_iso(self.firstboot))

    def start(self) -> None:
        """Starts QEMU."""
        self.prepare()
        argv = [*_machine(self._image, self._folder, self.port), *self._hardware, *drive(self._overlay, "qcow2")]
        argv += self._carriers
        if self._seed.exists():
            argv += drive(self._seed, "raw,readonly=on")
        (self._folder / "net.pcap").unlink(missing_ok=True)  # the last boot's address says nothing about this one
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def wait_until_usable(self, patience: Patience) -> None:
        """Until a first command over ssh has worked. The connection is kept for `run`."""
        self._transport = self.connect(patience)
        self.run("true", patience)

    def connect(self, patience: Patience) -> paramiko.Transport:
        """A new connection as root by key, to the pinned host key if one was given."""
        transport = self._greet(patience)
        transport.auth_publickey("root", self._key)
        return transport

    def log_in(self, user: str, password: str, patience: Patience) -> paramiko.Transport:
        """A new connection by password. Raises paramiko's AuthenticationException if it is refused."""
        transport = self._greet(patience)
        try:
            transport.auth_password(user, password)
        except paramiko.AuthenticationException:
            transport.close()
            raise
        return transport

    def _greet(self, patience: Patience) -> paramiko.Transport:
        transport = paramiko.Transport(self.dial(patience))
        transport.banner_timeout = transport.auth_timeout = patience.remaining
        transport.start_client(timeout=patience.remaining)
        if self.firstboot is not None:
            answered = transport.get_remote_server_key()
            assert f"{answered.get_name()} {answered.get_base64()}" == self.firstboot.host_key
        return transport

    def dial(self, patience: Patience) -> socket.socket:
        """A socket on which an ssh server has begun to speak.

        Nothing is tried before the guest has an address: QEMU accepts for it all the same and hands every attempt over
        later, also those that were given up, and each costs a booting guest a process.
        """
        try:
            patience.until(self._has_address, "the guest's address", every=0.02)
            return patience.until(lambda: self._knock(patience), f"ssh on port {self.port}", every=0.05)
        except TimedOut as error:
            raise TimedOut(error.said, self.console_end()) from error

    def _has_address(self) -> bool:
        assert self.alive, f"QEMU ended: {self.console_end()}"
        traffic = self._folder / "net.pcap"
        return traffic.exists() and DHCP_ACK in traffic.read_bytes()

    def _knock(self, patience: Patience) -> socket.socket | None:
        """One attempt, waited for as long as the guest has taken it and may yet speak."""
        assert self.alive, f"QEMU ended: {self.console_end()}"
        attempt = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        while not (heard := select.select([attempt], [], [], 1)[0]):
            if not patience.remaining or "ESTABLISHED" not in self.monitor("info usernet"):
                break
        if heard and _speaks(attempt):
            attempt.settimeout(None)
            return attempt
        attempt.close()
        return None

    @property
    def transport(self) -> paramiko.Transport:
        """The kept connection, as root."""
        assert self._transport is not None, "wait_until_usable first"
        return self._transport

    def run(self, command: str, patience: Patience) -> Answer:
        """Runs a shell command as root."""
        with self.transport.open_session(timeout=patience.remaining) as channel:
            channel.settimeout(patience.remaining)
            channel.exec_command(command)
            out, err = channel.makefile("rb").read(), channel.makefile_stderr("rb").read()
            return Answer(status=channel.recv_exit_status(), stdout=out.decode(), stderr=err.decode())

    def press_power_button(self) -> None:
        self.monitor("system_powerdown")

    def monitor(self, command: str) -> str:
        """What QEMU answers to a command of its monitor."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._folder / "monitor"))
            _read_until(monitor, b"(qemu) ")
            monitor.sendall(f"{command}\n".encode())
            return _read_until(monitor, b"(qemu) ").decode(errors="replace")

    def wait_until_off(self, patience: Patience) -> None:
        patience.until(lambda: not self.alive, "the guest to power off", every=0.05, hint=self.console_end())

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """At once, as a power failure would. Start it again to boot the same disk."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def console_end(self) -> str:
        return self.console.read_text(errors="replace")[-2000:] if self.console.exists() else ""


def _machine(image: Path, folder: Path, port: int) -> list[str]:
    there = read_loose(image)
    return [
        *("qemu-system-x86_64", "-nodefaults", "-machine", "pc", "-smp", "1"),
        *("-m", str(there.descriptor.min_memory_mb), "-display", "none", "-no-reboot"),
        *_kernel(there),
        *("-serial", f"file:{folder / 'console.log'}"),
        *("-monitor", f"unix:{folder / 'monitor'},server=on,wait=off"),
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=net"),
        *("-object", f"filter-dump,id=dump,netdev=net,file={folder / 'net.pcap'},maxlen=512"),
        *("-device", "virtio-rng-pci"),
    ]


def _kernel(image: LooseImage) -> list[str]:
    """What is handed over; nothing for an image that boots from its disk."""
    boot = image.descriptor.boot
    return ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", boot.command_line] if boot else []


def drive(path: Path, image_format: str) -> list[str]:
    """QEMU's arguments for one more disk."""
    return ["-drive", f"file={path},if=virtio,cache=unsafe,format={image_format}"]


def _read_until(connection: socket.socket, end: bytes) -> bytes:
    read = b""
    while not read.endswith(end):
        more = connection.recv(4096)
        assert more, "QEMU's monitor hung up"
        read += more
    return read


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
