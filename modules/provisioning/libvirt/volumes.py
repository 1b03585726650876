"""The files of machines, made and removed through libvirt's storage API, so that the VM host may be another machine.

A file carries its owner tag in its name: `vcl:LAB:COMPUTER` becomes `vcl_LAB_COMPUTER.disk.qcow2`; neither `vcl` nor a
lab's id has an underscore, so the tag can be read back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os.path
import re
from collections.abc import Generator, Iterator
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from vcl_provision.drivers import Found, Patience, Space, full

from .binding import libvirt, numbers
from .connections import found, gone_is_fine

DISK, SEED, SEED_DISK, FW_CFG, CONSOLE = "disk.qcow2", "seed.iso", "seed.img", "firstboot.conf", "console.log"
MESSAGE = 262120
"""Bytes that a stream takes at most (libvirt's VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX): more is copied in vain."""
_OURS = re.compile(r"(vcl_[^_]+_.+)\.(?:disk\d*\.qcow2|seed\.(?:iso|img)|firstboot\.conf|console\.log(?:\.\d+)?)")
# rotated logs have numbers
_EMPTY_OVERLAY = 1 << 18
_MAKING = 30.0
_FULL = "No space left on device"


def file_name(owner: str, kind: str) -> str:
    """How a machine's file is called; kind is one of the five above."""
    return f"{'_'.join(owner.split(':', 2))}.{kind}"


def disk_kind(number: int) -> str:
    """What a machine's disk is called: the first one is its system's."""
    return f"disk{number + 1}.qcow2" if number else DISK


def owner_of(name: str) -> str:
    """The owner tag that a file's name carries; empty if it carries none."""
    match = _OURS.fullmatch(name)
    return ":".join(match[1].split("_", 2)) if match else ""


def pool_at(connection: libvirt.virConnect, path: str) -> libvirt.virStoragePool:
    """The storage pool over a folder of the VM host; made, with the folder, if there is none."""
    path = os.path.normpath(path)
    return _known_pool(connection, path) or _new_pool(connection, path, libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD)


def existing_pool(connection: libvirt.virConnect, path: str) -> libvirt.virStoragePool | None:
    """The storage pool over a folder of the VM host, None if there is no such folder."""
    path = os.path.normpath(path)
    with contextlib.suppress(libvirt.libvirtError):
        return _known_pool(connection, path) or _new_pool(connection, path, 0)
    return None


def make_overlay(pool: libvirt.virStoragePool, name: str, *, master: str, master_format: str, size: int) -> str:
    """Makes a disk that holds only what differs from the master; returns its path. `size` in bytes, as the guest's."""
    described = _described(name, size, "qcow2")
    backing = SubElement(described, "backingStore")
    SubElement(backing, "path").text = master
    SubElement(backing, "format", type=master_format)
    with room_for(pool, _EMPTY_OVERLAY):
        return _create(pool, name, described).path()


def put_bytes(connection: libvirt.virConnect, pool: libvirt.virStoragePool, name: str, content: bytes) -> str:
    """Makes a file with this content, which only the hypervisor can read; returns its path. All of it, or no file."""
    with room_for(pool, len(content)), gone_if_unfinished(pool, name):
        volume = _create(pool, name, _described(name, len(content), "raw"))
        stream = connection.newStream()
        volume.upload(stream, 0, len(content))
        with finished(stream):
            send(stream, content)
        return volume.path()


def make_empty(pool: libvirt.virStoragePool, name: str, size: int = 0) -> libvirt.virStorageVol:
    """Makes a file of so many bytes, none stored yet; also for the hypervisor to write: known, it can be removed."""
    return _create(pool, name, _described(name, size, "raw"))


@contextlib.contextmanager
def room_for(pool: libvirt.virStoragePool, needed: int) -> Generator[None]:
    """Says what is full, if that is what stops the work inside. Raises Refused with path, free and needed bytes."""
    try:
        yield
    except libvirt.libvirtError as error:
        if _FULL not in str(error):
            raise
        refresh(pool)
        raise full(path_of(pool), free=numbers(pool.info())[3], needed=needed) from error


def space_in(pool: libvirt.virStoragePool) -> Space:
    """The disk of a pool's folder."""
    refresh(pool)
    _, capacity, _, free = numbers(pool.info())
    return Space(path=path_of(pool), total=capacity, free=free)


@contextlib.contextmanager
def gone_if_unfinished(pool: libvirt.virStoragePool, name: str) -> Generator[None]:
    """Removes the file unless the work inside came to its end."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(libvirt.libvirtError):
            remove_file(pool, name)
        raise


def send(stream: libvirt.virStream, content: bytes | memoryview) -> None:
    """Sends all of it: a stream may take less than it is given."""
    view = memoryview(content)
    while view:
        view = view[stream.send(bytes(view[:MESSAGE])) :]


@contextlib.contextmanager
def finished(stream: libvirt.virStream) -> Generator[None]:
    """Ends a stream: as whole if the work inside came to its end, else aborted."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(libvirt.libvirtError):
            stream.abort()
        raise
    stream.finish()


def remove_files(connection: libvirt.virConnect, path: str, owner: str, patience: Patience) -> None:
    """Removes all files of an owner in a folder; those that are gone already are fine. Raises TimedOut, Cancelled.

    The host may still be at work for somebody who was killed: a file that it is making goes when it is made.
    """
    pool = existing_pool(connection, path)
    if pool is None:
        return
    if file_name(owner, CONSOLE) in pool.listVolumes():
        refresh(pool)  # virtlogd may have rotated it, which libvirt does not notice
    for name in pool.listVolumes():
        if owner_of(name) == owner:
            patience.at_most(_MAKING).until(lambda name=name: _removed(pool, name), f"{name} to be free", every=0.02)


def remove_file(pool: libvirt.virStoragePool, name: str) -> None:
    """Removes one file; one that is gone already is fine."""
    absent = (libvirt.VIR_ERR_NO_STORAGE_VOL,)
    volume = found(lambda: pool.storageVolLookupByName(name), *absent)
    if volume is not None:
        gone_is_fine(volume.delete, *absent)


def _removed(pool: libvirt.virStoragePool, name: str) -> bool:
    try:
        remove_file(pool, name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
            return False
        raise
    return True


def listed(connection: libvirt.virConnect, path: str) -> Iterator[Found]:
    """All files in a folder of the VM host, also those that libvirt did not make."""
    pool = existing_pool(connection, path)
    if pool is None:
        return
    refresh(pool)
    for volume in pool.listAllVolumes():
        owner = owner_of(volume.name())
        if owner or numbers(volume.info())[0] != libvirt.VIR_STORAGE_VOL_DIR:
            yield Found(name=owner.rpartition(":")[2] or volume.name(), owner=owner, what=f"file {volume.path()}")


def refresh(pool: libvirt.virStoragePool) -> None:
    """Lets libvirt look at the folder again; while it writes there it will not, and what it writes it knows."""
    with contextlib.suppress(libvirt.libvirtError):
        pool.refresh()


def path_of(pool: libvirt.virStoragePool) -> str:
    """The folder of a pool."""
    return fromstring(pool.XMLDesc()).findtext("target/path", "")  # noqa: S314 - libvirt wrote it


def _known_pool(connection: libvirt.virConnect, path: str) -> libvirt.virStoragePool | None:
    pool = found(lambda: connection.storagePoolLookupByTargetPath(path), libvirt.VIR_ERR_NO_STORAGE_POOL)
    return pool or _stopped_pool(connection, path)


def _stopped_pool(connection: libvirt.virConnect, path: str) -> libvirt.virStoragePool | None:
    for pool in connection.listAllStoragePools():
        if path_of(pool) == path and not pool.isActive():
            pool.create()
            return pool
    return None


def _new_pool(connection: libvirt.virConnect, path: str, flags: int) -> libvirt.virStoragePool:
    """Not defined for ever: it is the folder that lasts. Two that make it at once get the same."""
    described = Element("pool", type="dir")
    SubElement(described, "name").text = f"vcl-{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    SubElement(SubElement(described, "target"), "path").text = path
    try:
        return connection.storagePoolCreateXML(tostring(described, encoding="unicode"), flags)
    except libvirt.libvirtError:
        made = found(lambda: connection.storagePoolLookupByTargetPath(path), libvirt.VIR_ERR_NO_STORAGE_POOL)
        if made is None:
            raise
        return made


def _described(name: str, size: int, image_format: str) -> Element:
    volume = Element("volume")
    SubElement(volume, "name").text = name
    SubElement(volume, "capacity", unit="bytes").text = str(size)
    target = SubElement(volume, "target")
    SubElement(target, "format", type=image_format)
    SubElement(SubElement(target, "permissions"), "mode").text = "0600"
    return volume


def _create(pool: libvirt.virStoragePool, name: str, described: Element) -> libvirt.virStorageVol:
    """A file of this name that is there is left of something killed, since names carry our tag: it makes room."""
    xml = tostring(described, encoding="unicode")
    try:
        return pool.createXML(xml)
    except libvirt.libvirtError:
        refresh(pool)
        if name not in pool.listVolumes():
            raise
    remove_file(pool, name)
    return pool.createXML(xml)
