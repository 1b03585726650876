"""Masters that nothing rests on any more: by what libvirt says of every machine and every disk of the VM host."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import fromstring

from vcl_provision.drivers import Leftover, Refused, StoredMaster, Task, VmHost, leftovers, remove_leftovers

from .binding import libvirt, numbers
from .connections import is_local
from .masters import gate_of, lock_of
from .volumes import existing_pool, pool_at, refresh, remove_file

_CONTENT = re.compile(r"[0-9a-f]{64}")


def lying(connection: libvirt.virConnect, host: VmHost) -> list[StoredMaster]:
    """All masters in a host's datastore, with who rests on each. Raises Refused if a disk's folder cannot be seen."""
    pool = existing_pool(connection, host.profile.datastore_path)
    if pool is None:
        return []
    refresh(pool)
    masters = [volume for volume in pool.listAllVolumes() if _CONTENT.fullmatch(volume.name())]
    holders = _holders(connection, host) if masters else {}
    return [*(_stored(volume, holders.get(volume.name(), [])) for volume in masters), *_left(host)]


def remove(
    connection: libvirt.virConnect, task: Task, host: VmHost, named: Callable[[], Collection[str]], before: datetime
) -> list[StoredMaster]:
    """Removes what may go: alone with the gate, so that a load has a machine that shows here, or asks again."""
    gone: list[StoredMaster] = []
    with task.locks.hold(gate_of(host), patience=task.patience):
        kept = named()
        for master in lying(connection, host):
            if master.left or not master.unneeded(kept, before):
                continue
            with task.locks.hold(lock_of(host, master.sha256), patience=task.patience):
                remove_file(pool_at(connection, host.profile.datastore_path), master.sha256)
            gone.append(master)
    return [*gone, *_without_leftovers(host, before)]


def _left(host: VmHost) -> list[StoredMaster]:
    """Of transfers to this machine; one to another goes on in the file that becomes the master."""
    return [_leftover(each) for each in leftovers(_folder(host))] if is_local(host.address) else []


def _without_leftovers(host: VmHost, before: datetime) -> list[StoredMaster]:
    if not is_local(host.address):
        return []
    return [_leftover(each) for each in remove_leftovers(_folder(host), before)]


def _folder(host: VmHost) -> Path:
    return Path(host.profile.datastore_path)


def _leftover(found: Leftover) -> StoredMaster:
    holders = ["a transfer under way"] if found.busy else []
    return StoredMaster(sha256=found.sha256, bytes=found.bytes, changed=found.changed, holders=holders, left=True)


def _holders(connection: libvirt.virConnect, host: VmHost) -> dict[str, list[str]]:
    """Who names which content: any word of a description that is one counts, so that no way to use it is missed."""
    holders: dict[str, list[str]] = {}
    described = list(_machines(connection))
    folders = {os.path.normpath(host.profile.vm_path)} | {folder for _, xml in described for folder in _folders(xml)}
    described += _disks(connection, folders)
    for who, xml in described:
        for content in set(_CONTENT.findall(xml)):
            holders.setdefault(content, []).append(who)
    return holders


def _machines(connection: libvirt.virConnect) -> Iterator[tuple[str, str]]:
    """Those of others too; running as they are, and as they would start again; their snapshots."""
    for domain in connection.listAllDomains():
        who = f"machine {domain.name()}"
        yield who, domain.XMLDesc()
        if domain.isPersistent():
            yield who, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        for snapshot in domain.listAllSnapshots():
            yield who, snapshot.getXMLDesc()


def _disks(connection: libvirt.virConnect, folders: Collection[str]) -> Iterator[tuple[str, str]]:
    """Every disk in those folders, in all pools, and in the folders that these rest on: whole backing chains."""
    pools = {pool.UUIDString(): pool for pool in connection.listAllStoragePools() if pool.isActive()}
    ahead, seen = sorted(folders), set[str]()
    while pools or ahead:
        if ahead:
            folder = ahead.pop()
            if folder not in seen:
                seen.add(folder)
                pool = _seen(connection, folder)
                pools[pool.UUIDString()] = pool
            continue
        _, pool = pools.popitem()
        refresh(pool)
        for volume in pool.listAllVolumes():
            beneath = fromstring(volume.XMLDesc()).findtext("backingStore/path", "")  # noqa: S314 - libvirt wrote it
            if beneath:
                yield f"disk {volume.path()}", beneath
                ahead.append(str(PurePosixPath(beneath).parent))


def _seen(connection: libvirt.virConnect, folder: str) -> libvirt.virStoragePool:
    """What cannot be seen may rest on anything."""
    pool = existing_pool(connection, folder)
    if pool is None:
        said = f"{folder} of {connection.getHostname()} cannot be looked at, and disks there may rest on masters"
        raise Refused(said, "make it readable for libvirt, or remove the machine that has a disk there")
    return pool


def _folders(xml: str) -> Iterator[str]:
    """Where the disks of a machine lie."""
    for source in fromstring(xml).iterfind(".//disk//source[@file]"):  # noqa: S314 - libvirt wrote it
        yield str(PurePosixPath(source.attrib["file"]).parent)


def _stored(volume: libvirt.virStorageVol, holders: list[str]) -> StoredMaster:
    times = fromstring(volume.XMLDesc()).find("target/timestamps")  # noqa: S314 - libvirt wrote it
    seconds = [float(times.findtext(kind, "0")) for kind in ("mtime", "ctime")] if times is not None else []
    size = numbers(volume.infoFlags(libvirt.VIR_STORAGE_VOL_GET_PHYSICAL))[2]
    changed = datetime.fromtimestamp(max(seconds, default=0), UTC)
    return StoredMaster(sha256=volume.name(), bytes=size, changed=changed, holders=sorted(set(holders)))
