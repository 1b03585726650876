"""Keeps one private libvirtd alive, and takes everything down with it. A program: `python keeper.py FOLDER [PID]`.

The daemon sees its own /etc/libvirt, /run/libvirt, ... by a mount namespace, and touches no other; the network is the
machine's. The keeper is the sub-reaper of it all: what a daemonised QEMU or dnsmasq leaves is its child, seen dead at
once (libvirt waits for that). With a PID it ends when that process does. It imports nothing of ours, being a program.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from ipaddress import ip_network
from itertools import product
from pathlib import Path
from typing import BinaryIO

PLACES = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
"""Folders of ours, and where the daemon sees them. Only `cache` outlives it: QEMU's capabilities, a second to ask."""

_CONF = {
    "qemu.conf": (
        'user = "root"\ngroup = "root"\ndynamic_ownership = 0\nremember_owner = 0\nsecurity_driver = "none"\n'
        "cgroup_controllers = [ ]\nnamespaces = [ ]\n"
    ),
    "libvirtd.conf": 'unix_sock_group = "root"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n',
    "virtlogd.conf": "",
}
_IN_ITS_PLACES = """
folder=$1; shift
while [ "$1" != -- ]; do mount --bind "$folder/$1" "$2" || exit 1; shift 2; done
shift
account() {
    getent "$1" libvirt-qemu >/dev/null && return
    { cat "/etc/$1" && echo "$2"; } >"$folder/run/$1.$$" && mount --bind "$folder/run/$1.$$" "/etc/$1"
}
account passwd libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin
account group libvirt-qemu:x:64055:
exec "$@"
"""
"""libvirtd does not start without the account that QEMU runs as by default, though here none does. The package that
makes it also starts daemons for the whole machine; so where it is missing, only our daemon sees one."""
_CHAINS = (
    ("filter", "INPUT", "LIBVIRT_INP"),
    ("filter", "OUTPUT", "LIBVIRT_OUT"),
    *(("filter", "FORWARD", chain) for chain in ("LIBVIRT_FWX", "LIBVIRT_FWI", "LIBVIRT_FWO")),
    *((table, "POSTROUTING", "LIBVIRT_PRT") for table in ("nat", "mangle")),
)
_SHARED = Path("/proc/self/ns/net")
"""Each keeper holds a shared lock on it: chains and places go with the last one, and none begins meanwhile."""
_MADE = ".made-for-a-lab"  # in a place that was not there; to remove one takes it from all daemons that mounted on it
_SET_CHILD_SUBREAPER, _GRACE = 36, 15.0  # the first: prctl(2)


def socket_of(folder: Path) -> Path:
    """Where clients reach the daemon kept for this folder."""
    return folder / "run" / "libvirt-sock"


def keeper_of(folder: Path) -> int | None:
    """The living keeper's process id: what the file says, if that process still is the one that wrote it."""
    try:
        said = json.loads((folder / "keeper.json").read_text())
    except (OSError, ValueError):
        return None
    return said["pid"] if said["started"] == _started(said["pid"]) else None


def take_down(folder: Path) -> None:
    """Ends what runs for this folder and removes its traces in the system: by its keeper, or without one."""
    pid = keeper_of(folder)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError), _process(pid) as fd:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
            select.select([fd], [], [], 2 * _GRACE)
    elif any(daemon_processes(folder)):
        _ask_all_to_end(folder, _wait)
    with _SHARED.open("rb") as shared:
        _clear(folder, _wait, shared)


def daemon_processes(folder: Path) -> Iterator[int]:
    """Processes that see this folder's `run` as /run/libvirt: those of its daemon, and no others."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "root/run/libvirt").samefile(folder / "run"):
                yield int(entry.name)


def main(folder: Path, watched: int | None) -> int:
    """Starts the daemon and stays until told to end, the watched process ends, or the daemon will not live."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    heard = _signals()
    with _SHARED.open("rb") as shared, _process(watched or os.getpid()) as life:
        fcntl.flock(shared, fcntl.LOCK_SH)
        _prepare(folder)
        while _lives(_start(folder), heard, life):
            pass
        _ask_all_to_end(folder, _reap)
        _clear(folder, _reap, shared)
    return 0


def _signals() -> socket.socket:
    """What arrives is readable here, so that one select hears signals and the watched process alike."""
    heard, woken = socket.socketpair()
    heard.settimeout(0)
    woken.settimeout(0)
    signal.set_wakeup_fd(woken.detach())
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _wake)
    return heard


def _wake(_number: int, _frame: object) -> None:
    """Not ignored, so that it is written to the socket."""


def _prepare(folder: Path) -> None:
    for name in PLACES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in _CONF.items():
        (folder / "etc" / name).write_text(text, encoding="utf-8")
    for place in map(Path, PLACES.values()):
        with contextlib.suppress(FileExistsError):
            place.mkdir(parents=True)
            (place / _MADE).touch()
    (folder / "keeper.json").write_text(json.dumps({"pid": os.getpid(), "started": _started(os.getpid())}))


def _start(folder: Path) -> subprocess.Popen[bytes]:
    """virtlogd keeps the consoles' logs from growing without end; libvirtd does not start it by itself."""
    _spawn(folder, "virtlogd", "--daemon", "--pid-file", "/run/libvirt/virtlogd.pid")
    return _spawn(folder, "libvirtd", "--pid-file", "/run/libvirt/libvirtd.pid")


def _spawn(folder: Path, *program: str) -> subprocess.Popen[bytes]:
    places = [word for place in PLACES.items() for word in place]
    inside = ["sh", "-c", _IN_ITS_PLACES, "sh", str(folder), *places, "--", *program]
    argv = ["unshare", "--mount", "--propagation", "slave", *inside]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL)  # noqa: S603 - there is no task here whose runner to use


def _lives(daemon: subprocess.Popen[bytes], heard: socket.socket, life: int) -> bool:
    """Waits; true if the daemon died after a life worth starting another for, false if all is to end."""
    began = time.monotonic()
    while True:
        ready, _, _ = select.select([heard, life], [], [])
        if life in ready or set(heard.recv(4096)) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            return False
        if daemon.pid in _reap():
            return time.monotonic() - began > 5


def _reap() -> set[int]:
    ended: set[int] = set()
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            ended.add(pid)
    return ended


def _wait() -> None:
    """For whoever is not the keeper, and has other children that it must not reap."""


def _ask_all_to_end(folder: Path, meanwhile: Callable[[], object]) -> None:
    """By libvirt itself, so that networks take their firewall rules along; bounded, since the daemon may be hung.

    Meanwhile the keeper reaps: libvirt waits until a QEMU that it ended is gone, and only the keeper can let it go.
    """
    asking = threading.Thread(target=_end_all, args=(folder,), daemon=True)
    asking.start()
    ends = time.monotonic() + _GRACE
    while asking.is_alive() and time.monotonic() < ends:
        meanwhile()
        asking.join(0.02)


def _end_all(folder: Path) -> None:
    import libvirt  # noqa: PLC0415 - a machine without it still can be tidied up by this file

    with contextlib.suppress(libvirt.libvirtError):
        connection = libvirt.open(f"qemu+unix:///system?socket={socket_of(folder)}")
        for thing in (*connection.listAllDomains(), *connection.listAllNetworks()):
            with contextlib.suppress(libvirt.libvirtError):
                thing.destroy()


def _clear(folder: Path, meanwhile: Callable[[], object], shared: BinaryIO) -> None:
    """What gentle ways left: processes are killed, bridges removed; and if nobody is left, what all share."""
    _kill(folder, meanwhile)
    for network in (folder / "run" / "network").glob("*.xml"):
        _remove_network(network.read_text(encoding="utf-8", errors="replace"))
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _other_daemons():
            _remove_shared()
    for name in set(PLACES) - {"cache"}:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "keeper.json").unlink(missing_ok=True)


def _kill(folder: Path, meanwhile: Callable[[], object]) -> None:
    ends = time.monotonic() + _GRACE
    while (left := list(daemon_processes(folder))) and time.monotonic() < ends:
        for pid in left:
            with contextlib.suppress(ProcessLookupError), _process(pid) as fd:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                select.select([fd], [], [], 1)
        meanwhile()


def _remove_network(description: str) -> None:
    """What a daemon that was killed could not remove: the bridge, and the rules that speak of it or of its subnet."""
    bridges = set(re.findall(r"<bridge name='([^']+)'", description))
    subnets = re.findall(r"<ip address='([^']+)' netmask='([^']+)'", description)
    spoken = bridges | {str(ip_network("/".join(subnet), strict=False)) for subnet in subnets}
    for bridge in bridges:
        _output("ip", "link", "delete", bridge)
    for table in {table for table, *_ in _CHAINS}:
        for rule in (_output("iptables", "-w", "-t", table, "-S") or "").splitlines():
            words = shlex.split(rule)
            if words[:1] == ["-A"] and words[1].startswith("LIBVIRT_") and spoken & set(words):
                _output("iptables", "-w", "-t", table, "-D", *words[1:])


def _other_daemons() -> bool:
    return bool({_program(entry) for entry in Path("/proc").glob("[0-9]*")} & {"libvirtd", "virtnetworkd"})


def _remove_shared() -> None:
    """libvirt leaves its chains behind, empty. Each daemon makes them at its start: without one they serve nobody."""
    for program, (table, built_in, chain) in product(("iptables", "ip6tables"), _CHAINS):
        to = (program, "-w", "-t", table)
        if _output(*to, "-S", chain) == f"-N {chain}\n":
            _output(*to, "-D", built_in, "-j", chain)
            _output(*to, "-X", chain)
    for place in map(Path, PLACES.values()):
        with contextlib.suppress(OSError):  # not one of ours, or somebody's by now
            (place / _MADE).unlink()
            place.rmdir()


def _output(*argv: str) -> str | None:
    """Standard output; None if the command failed, or there is none of that name."""
    try:
        ran = subprocess.run(argv, capture_output=True, timeout=_GRACE, check=True, text=True)  # noqa: S603 - as above
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout


@contextlib.contextmanager
def _process(pid: int) -> Generator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _program(process: Path) -> str:
    """Its file's name, also if that was replaced since; empty for the kernel's own, for what ended, for others'."""
    try:
        return (process / "exe").readlink().name.partition(" ")[0]
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in ticks since boot: with its id it names a process for good. Empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
