"""What a machine holds, by what the hypervisor itself knows of it: nothing that a user of the guest could edit."""

from __future__ import annotations

from vcl_provision.drivers import Computer, Revision, Task, VmHost

from .binding import libvirt
from .connections import found
from .machine import disk_of, mark_of
from .masters import Master, master_of
from .slots import domain_named, is_running


def holds(connection: libvirt.virConnect, task: Task, computer: Computer, revision: Revision, host: VmHost) -> bool:
    """Does our machine run in the slot, loaded with this revision, its disk resting on exactly its master, and is it
    the one that got the host key which we pinned. Raises Refused if the repository has lost what the machine holds."""
    domain = domain_named(connection, computer.name)
    if domain is None:
        return False
    mark = found(lambda: mark_of(domain), libvirt.VIR_ERR_NO_DOMAIN)
    if mark is None or (mark.owner, mark.revision_id, mark.revision) != (task.owner, revision.id, revision.name):
        return False
    if not computer.host_key or mark.host_key.split()[:2] != computer.host_key.split()[:2]:
        return False
    return is_running(domain) and _rests_on(domain, master_of(task, revision, host))


def _rests_on(domain: libvirt.virDomain, master: Master) -> bool:
    """The running machine's own description names the file beneath its disk, as QEMU has opened it."""
    description = found(domain.XMLDesc, libvirt.VIR_ERR_NO_DOMAIN)
    return description is not None and disk_of(description).backing == master.path(master.system_disk.blob)
