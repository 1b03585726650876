"""A hypervisor of one's own on this machine, for `vcl up` and the demo: a private libvirtd, a network, slots.

With VCL_LIBVIRT_URI set (`qemu:///system`), that daemon is used in place of a private one, and gets our network.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from vcl_provision.drivers import HostUnreachable, LocalImage, LocalLab, LocalSlot, Patience, Refused, TimedOut

from . import keeper, networks, slots, volumes
from .accelerator import kvm_works
from .binding import HOW_TO_INSTALL, INSTALLED, libvirt
from .connections import Hypervisor, found, gone_is_fine
from .machine import disk_of, mark_of

_PROGRAMS = {
    "libvirtd": "libvirt-daemon",
    "virtlogd": "libvirt-daemon",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "dnsmasq": "dnsmasq-base",
    "iptables": "iptables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "mount": "mount",
}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IMAGE = LocalImage(
    name="debian12",
    os="Debian GNU/Linux 12 (bookworm)",
    os_module="linux",
    profile="debian12",
    min_ram_mb=512,
    sudo=True,
)
_MOST_SLOTS = 200
_ENDS = 30.0
"""Seconds that a keeper may take to end."""
_children: dict[Path, int] = {}
"""Keepers that this process started, by their lab's folder."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a local lab is made of, kept in `lab.json`. `uri` reaches its libvirt; network and bridge have one name.

    `forward` is libvirt's word for where guests' packets may go besides this machine: nat, or empty for nowhere.
    """

    uri: str
    network: str
    subnet: str
    forward: str
    accelerator: str = ""

    def address(self, number: int) -> str:
        """1 is this machine, slots begin at 11."""
        return str(IPv4Network(self.subnet)[number])

    def mac(self, number: int) -> str:
        """QEMU's range, then the network's own two bytes."""
        return f"52:54:00:{self.network[-4:-2]}:{self.network[-2:]}:{number:02x}"


def missing() -> Sequence[str]:
    """What this machine lacks for `up`, one line each with how to get it."""
    lacks = [] if INSTALLED else [HOW_TO_INSTALL]
    if _foreign_uri():
        return lacks
    if os.geteuid() != 0:
        lacks.append("root: run it with sudo, or set VCL_LIBVIRT_URI to a libvirt that you may use (qemu:///system)")
    for program, package in _PROGRAMS.items():
        if shutil.which(program, path=_PATH) is None:
            lacks.append(f"{program}: apt-get install {package}")
    return lacks


def up(
    folder: Path, slots: int, *, forward: str = "nat", accelerator: str = "", watched: int | None = None
) -> LocalLab:
    """Brings it up; if it is up already, finds it. With `watched` it ends when that process does.

    `accelerator` kvm or tcg; empty: found out by a boot.
    Raises Refused if something is missing or the daemon does not start.
    """
    if not 0 < slots <= _MOST_SLOTS:
        raise Refused(f"{slots} slots cannot be had", f"at least 1, at most {_MOST_SLOTS}")
    if lacks := missing():
        raise Refused(f"this machine cannot run a hypervisor of its own yet: {lacks[0]}", "; ".join(lacks))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        place = _noted(folder) or _chosen(folder, forward, accelerator)
        if not _foreign_uri():
            _keep(folder, watched)
        with _answering(place.uri, folder) as connection:
            _ensure_network(connection, place, slots)
            place = _with_accelerator(connection, place, folder)
        _note(folder, place)
    return _lab(folder, place, slots)


def down(folder: Path) -> None:
    """Stops and removes what `up` made, but the images and their masters."""
    if not folder.is_dir():
        return
    with _alone(folder):
        place = _noted(folder)
        if place is not None and place.uri != _own_uri(folder):
            _leave(place, folder)
        keeper.take_down(folder / "libvirt")
        _reap(folder)
        shutil.rmtree(folder / "machines", ignore_errors=True)
        for name in ("lab.json", "keeper.log"):
            (folder / name).unlink(missing_ok=True)


def _foreign_uri() -> str:
    return os.environ.get("VCL_LIBVIRT_URI", "")


def _own_uri(folder: Path) -> str:
    return f"qemu+unix:///system?socket={keeper.socket_of(folder / 'libvirt')}"


def _keep(folder: Path, watched: int | None) -> None:
    """Starts a keeper if none lives. It outlives us: its own session, its messages in a file."""
    state = folder / "libvirt"
    if keeper.keeper_of(state) is not None:
        return
    if len(os.fsencode(keeper.socket_of(state))) > 107:
        raise Refused(f"{folder} is too long a path for a Unix socket", "take a shorter one, less than 80 characters")
    keeper.take_down(state)
    _reap(folder)
    state.mkdir(exist_ok=True)
    argv = [sys.executable, keeper.__file__, str(state), *([str(watched)] if watched else [])]
    log = (os.POSIX_SPAWN_OPEN, 1, folder / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), log, (os.POSIX_SPAWN_DUP2, 1, 2)]
    environment = {"PATH": _PATH, "LANG": "C.UTF-8"}
    _children[folder] = os.posix_spawn(sys.executable, argv, environment, file_actions=streams, setsid=True)


def _reap(folder: Path) -> None:
    """One that has ended stays as a zombie until it is asked for; one that ends by itself is waited for."""
    if child := _children.pop(folder, None):
        with contextlib.suppress(TimedOut):
            Patience(_ENDS).until(lambda: os.waitpid(child, os.WNOHANG)[0], "the keeper to end", every=0.02)


@contextlib.contextmanager
def _answering(uri: str, folder: Path) -> Generator[libvirt.virConnect]:
    hypervisor, patience = Hypervisor(uri), Patience(60)

    def answers() -> bool:
        with contextlib.suppress(HostUnreachable), hypervisor.connected(patience.at_most(10)):
            return True
        return False

    try:
        patience.until(answers, f"{uri} to answer", every=0.02, hint=f"see {folder / 'keeper.log'}")
        with hypervisor.connected(patience) as connection:
            yield connection
    finally:
        hypervisor.close()


def _ensure_network(connection: libvirt.virConnect, place: Place, slots: int) -> None:
    network = found(lambda: connection.networkLookupByName(place.network), libvirt.VIR_ERR_NO_NETWORK)
    if network is None:
        network = connection.networkDefineXML(_described(place, slots))
    if not network.isActive():
        network.create()
    for number in range(11, 11 + slots):
        networks.fix_lease(connection, place.network, mac=place.mac(number), address=ip_address(place.address(number)))


def _described(place: Place, slots: int) -> str:
    root = Element("network")
    SubElement(root, "name").text = place.network
    if place.forward:
        SubElement(root, "forward", mode=place.forward)
    SubElement(root, "bridge", name=place.network, stp="off", delay="0")
    mask = str(IPv4Network(place.subnet).netmask)
    dhcp = SubElement(SubElement(root, "ip", address=place.address(1), netmask=mask), "dhcp")
    SubElement(dhcp, "range", start=place.address(11 + _MOST_SLOTS), end=place.address(254))
    for number in range(11, 11 + slots):
        SubElement(dhcp, "host", mac=place.mac(number), ip=place.address(number))
    return tostring(root, encoding="unicode")


def _with_accelerator(connection: libvirt.virConnect, place: Place, folder: Path) -> Place:
    if place.accelerator:
        return place
    pool = volumes.pool_at(connection, str(folder / "machines"))
    return replace(place, accelerator="kvm" if kvm_works(connection, pool, Patience(30)) else "tcg")


def _leave(place: Place, folder: Path) -> None:
    """Takes our machines, network and pools out of a libvirt that others use too."""
    ours = str(folder) + os.sep
    with _answering(place.uri, folder) as connection:
        for domain in connection.listAllDomains():
            if mark_of(domain) and disk_of(domain.XMLDesc()).path.startswith(ours):
                slots.destroy(domain)
        network = found(lambda: connection.networkLookupByName(place.network), libvirt.VIR_ERR_NO_NETWORK)
        if network is not None:
            gone_is_fine(network.destroy, libvirt.VIR_ERR_OPERATION_INVALID)
            network.undefine()
        for pool in connection.listAllStoragePools():
            if volumes.path_of(pool).startswith(ours):
                gone_is_fine(pool.destroy, libvirt.VIR_ERR_OPERATION_INVALID)


def _lab(folder: Path, place: Place, slots: int) -> LocalLab:
    return LocalLab(
        host_name="localhost",
        host_address=place.uri,
        repository_path=str(folder / "images"),
        datastore_path=str(folder / "masters"),
        vm_path=str(folder / "machines"),
        network=place.network,
        images=[_IMAGE],
        slots=[
            LocalSlot(name=f"vm{n}", mac=place.mac(10 + n), private_address=place.address(10 + n))
            for n in range(1, slots + 1)
        ],
        overrides={"accelerator": place.accelerator, "cache": "unsafe"},
    )


def _chosen(folder: Path, forward: str, accelerator: str) -> Place:
    name = f"vcl{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]}"
    uri = _foreign_uri() or _own_uri(folder)
    subnet = _free_subnet(int(name[3:], 16))
    return Place(uri=uri, network=name, subnet=subnet, forward=forward, accelerator=accelerator)


def _free_subnet(seed: int) -> str:
    """A private network of 254 addresses that no route of this machine leads to, another for each folder."""
    taken = list(_routes())
    for number in range(1 << 14):
        at = (seed + number) % (1 << 14)
        subnet = IPv4Network(f"10.{192 + at // 256}.{at % 256}.0/24")
        if not any(subnet.overlaps(route) for route in taken):
            return str(subnet)
    raise Refused("there is no free subnet in 10.192.0.0/10", "this machine has routes to all of them")


def _routes() -> Iterator[IPv4Network]:
    """Where this machine sends packets, but for the default. The file: proc_net(5), addresses in the CPU's order."""
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(words[n]), sys.byteorder) for n in (1, 7))
        if mask:
            yield IPv4Network((destination, mask.bit_count()))


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """One `up` or `down` at a time."""
    with (folder / "lab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _noted(folder: Path) -> Place | None:
    try:
        return Place(**json.loads((folder / "lab.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _note(folder: Path, place: Place) -> None:
    beside = folder / ".lab.json"
    beside.write_text(json.dumps(asdict(place)), encoding="utf-8")
    beside.replace(folder / "lab.json")
