"""Who is connected, from what the kernel lists in /proc/net/{tcp,tcp6,udp,udp6}: proc(5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vcl_provision.drivers import Address

ESTABLISHED = "01"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """The other end of an established connection, and which port of ours it came to."""

    address: Address
    port: int
    to_port: int


def peers(listed: str) -> Iterator[Peer]:
    """All that the lists hold, one after the other. Addresses are words in the guest's byte order: little-endian."""
    for line in listed.splitlines():
        columns = line.split()
        if len(columns) > 3 and columns[3] == ESTABLISHED:
            _, to_port = _end(columns[1])
            address, port = _end(columns[2])
            yield Peer(address=address, port=port, to_port=to_port)


def unmapped(address: Address) -> Address:
    """An IPv4 address in IPv6's clothes is an IPv4 address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _end(text: str) -> tuple[Address, int]:
    words, _, port = text.partition(":")
    little = bytes.fromhex(words)
    big = b"".join(little[at : at + 4][::-1] for at in range(0, len(little), 4))
    address = IPv4Address(big) if len(big) == 4 else unmapped(IPv6Address(big))
    return address, int(port, 16)
