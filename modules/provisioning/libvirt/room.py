"""Room on a VM host: on this machine the file system says it at once, on another libvirt does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from vcl_provision.drivers import A_MACHINE, HostDisks, Space, VmHost, space_of

from .binding import libvirt
from .connections import is_local
from .volumes import pool_at, space_in

Connected = Callable[[VmHost], "AbstractContextManager[libvirt.virConnect]"]


def disks(host: VmHost, connected: Connected) -> HostDisks:
    """Both of a VM host's disks; `connected` is asked only where they are another machine's."""
    profile = host.profile
    return HostDisks(
        masters=_space(host, profile.datastore_path, connected), machines=_space(host, profile.vm_path, connected)
    )


def require_room_for_machine(host: VmHost, connected: Connected) -> None:
    """Raises Refused if the disk of machines is full before one more is made."""
    _space(host, host.profile.vm_path, connected).require(A_MACHINE, host.profile.keep_free_mb)


def _space(host: VmHost, path: str, connected: Connected) -> Space:
    if is_local(host.address):
        return space_of(Path(path))
    with connected(host) as connection:
        return space_in(pool_at(connection, path))
