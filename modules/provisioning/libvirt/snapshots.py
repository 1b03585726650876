"""Snapshots inside the machine's own disk, with memory while it runs: the only kind that libvirt 9 can go back to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from vcl_provision.drivers import Refused

from .binding import libvirt
from .connections import found, gone_is_fine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def take(domain: libvirt.virDomain, name: str) -> None:
    """Raises Refused for a name that could not be a file's, or is taken."""
    if not _NAME.fullmatch(name):
        raise Refused(f"{name!r} cannot be a snapshot's name", "letters, digits, dots, dashes, at most 64")
    if name in listed(domain):
        raise Refused(f"{domain.name()} has a snapshot {name!r} already", "delete it first, or choose another name")
    root = Element("domainsnapshot")
    SubElement(root, "name").text = name
    domain.snapshotCreateXML(tostring(root, encoding="unicode"))


def listed(domain: libvirt.virDomain) -> Sequence[str]:
    """Names, oldest first."""
    taken = [(snapshot.getName(), _created(snapshot)) for snapshot in domain.listAllSnapshots()]
    return [name for name, _ in sorted(taken, key=lambda pair: pair[1])]


def go_back(domain: libvirt.virDomain, name: str) -> None:
    """The machine is as it was then, running or not. Raises Refused if there is no such snapshot."""
    snapshot = _find(domain, name)
    if snapshot is None:
        raise Refused(f"{domain.name()} has no snapshot {name!r}", f"it has: {', '.join(listed(domain)) or 'none'}")
    domain.revertToSnapshot(snapshot)


def delete(domain: libvirt.virDomain, name: str) -> None:
    """One that is gone already is fine."""
    snapshot = _find(domain, name)
    if snapshot is not None:
        gone_is_fine(snapshot.delete, libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT)


def _find(domain: libvirt.virDomain, name: str) -> libvirt.virDomainSnapshot | None:
    return found(lambda: domain.snapshotLookupByName(name), libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT)


def _created(snapshot: libvirt.virDomainSnapshot) -> int:
    found_at = re.search(r"<creationTime>(\d+)</creationTime>", snapshot.getXMLDesc())
    return int(found_at[1]) if found_at else 0
