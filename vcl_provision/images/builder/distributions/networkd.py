"""A guest's network as systemd-networkd reads it: https://www.freedesktop.org/software/systemd/man/systemd.network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from vcl_provision.images.builder.distributions.distribution import Guest
from vcl_provision.images.builder.spec import Network

PLACE = "etc/systemd/network/20-static.network"


def configure(guest: Guest) -> None:
    """DHCP is what the tree `systemd` says; with addresses of its own the guest gets a file that comes before it."""
    if guest.spec.network.addresses or guest.spec.network.dns:
        guest.tree.write(PLACE, "".join(f"{line}\n" for line in _lines(guest.spec.network)))


def _lines(network: Network) -> Iterator[str]:
    yield "[Match]"
    yield f"MACAddress={network.mac}" if network.mac else "Type=ether\nKind=!*"
    yield "\n[Link]\nRequiredForOnline=no"
    yield "\n[Network]"
    versions = {ipaddress.ip_interface(address).version for address in network.addresses}
    yield (
        "DHCP="
        + {(True, True): "no", (True, False): "no", (False, True): "ipv4", (False, False): "yes"}[
            (4 in versions, 6 in versions)
        ]
    )
    yield f"IPv6AcceptRA={'no' if 6 in versions else 'yes'}"
    yield from (f"Address={address}" for address in network.addresses)
    yield from (f"Gateway={gateway}" for gateway in network.gateways)
    yield from (f"DNS={server}" for server in network.dns)
    if 4 not in versions:
        yield "\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no"
