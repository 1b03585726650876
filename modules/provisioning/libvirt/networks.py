"""Addresses of machines: a fixed lease in a libvirt network, or whatever a bridge's own network gives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import TypedDict, cast
from xml.etree.ElementTree import Element, fromstring, tostring

from vcl_provision.drivers import Address, Computer, Refused

from .binding import libvirt
from .connections import found

_HOSTS = "./ip/dhcp/host"


class _Lease(TypedDict):
    ipaddr: str


class _Told(TypedDict):
    addr: str


class _Card(TypedDict):
    addrs: Sequence[_Told] | None


def mac_of(computer: Computer, owner: str) -> str:
    """The computer's own, or one made of its owner tag in QEMU's range: the same at each load."""
    if computer.mac:
        return computer.mac.lower()
    digest = hashlib.sha256(owner.encode()).hexdigest()
    return f"52:54:00:{digest[:2]}:{digest[2:4]}:{digest[4:6]}"


def is_bridge(network: str) -> bool:
    """Is the profile's network a bridge of the VM host, whose addresses are not libvirt's to give."""
    return network.startswith("bridge:")


def fix_lease(connection: libvirt.virConnect, network: str, *, mac: str, address: Address) -> None:
    """Makes the network give this machine this address, from now on. Asks first: an update costs dnsmasq a reload.

    Raises Refused if there is no such network, it gives no addresses, or another machine has this one.
    """
    net = _network(connection, network)
    hosts = fromstring(net.XMLDesc()).findall(_HOSTS)  # noqa: S314 - libvirt wrote it
    theirs = next((host for host in hosts if host.get("ip") == str(address)), None)
    mine = next((host for host in hosts if host.get("mac", "").lower() == mac), None)
    if theirs is not None and theirs is not mine:
        said = f"{address} belongs to {theirs.get('mac')} in network {network}"
        raise Refused(said, "give the computer another address, or take that entry out of the network")
    if mine is None:
        _update(net, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, mac, address)
    elif theirs is None:
        _update(net, libvirt.VIR_NETWORK_UPDATE_COMMAND_MODIFY, mac, address)


def leased(connection: libvirt.virConnect, network: str, mac: str) -> Sequence[Address]:
    """The addresses that the network has given to this machine."""
    leases = cast("Sequence[_Lease]", _network(connection, network).DHCPLeases(mac))
    return [ip_address(lease["ipaddr"]) for lease in leases]


def told_by_agent(domain: libvirt.virDomain) -> Sequence[Address]:
    """The addresses that the guest's agent tells; none while none answers."""
    source = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
    silent = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_OPERATION_INVALID)
    cards = cast("Mapping[str, _Card] | None", found(lambda: domain.interfaceAddresses(source), *silent)) or {}
    said = [ip_address(entry["addr"]) for card in cards.values() for entry in card["addrs"] or ()]
    return [address for address in said if not (address.is_loopback or address.is_link_local)]


def _network(connection: libvirt.virConnect, name: str) -> libvirt.virNetwork:
    network = found(lambda: connection.networkLookupByName(name), libvirt.VIR_ERR_NO_NETWORK)
    if network is None:
        raise Refused(f"the VM host has no network {name!r}", "define it there, or name another in the VM profile")
    if not network.isActive():
        raise Refused(f"the VM host's network {name!r} is not running", f"there: virsh net-start {name}")
    return network


def _update(network: libvirt.virNetwork, command: int, mac: str, address: Address) -> None:
    entry = tostring(Element("host", mac=mac, ip=str(address)), encoding="unicode")
    kept = libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG if network.isPersistent() else 0
    section = libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST
    network.update(command, section, -1, entry, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE | kept)
