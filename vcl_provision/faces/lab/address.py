"""A second address on a lab's own network, for a user who is somewhere else than the management node."""

from __future__ import annotations

import json
from collections.abc import Collection, Generator
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface
from typing import Any

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Refused
from vcl_provision.model.lab import Address

TAKES = 10.0
"""Seconds that a question to `ip` may take."""


@contextmanager
def second_address(towards: Address, *, taken: Collection[Address]) -> Generator[Address]:
    """An address of our own beside the one that we have on the way there, removed again. Needs root.

    Raises Refused if that network has none free, CommandFailed if it cannot be added.
    """
    channel = LocalChannel()
    way = _ask(channel, "route", "get", str(towards))[0]
    device, ours = str(way["dev"]), ip_address(str(way["prefsrc"]))
    found = _ask(channel, "address", "show", "dev", device)[0]["addr_info"]
    network = next(ip_interface(f"{one['local']}/{one['prefixlen']}") for one in found if one["local"] == str(ours)).network
    address = _highest_free(network.broadcast_address, [network.network_address, ours, *taken])
    add = ("ip", "address", "replace", f"{address}/{network.prefixlen}", "dev", device, "noprefixroute")
    remove = ("ip", "address", "del", f"{address}/{network.prefixlen}", "dev", device)
    channel.run(add, patience=Patience(TAKES))
    try:
        yield address
    finally:
        channel.run(remove, patience=Patience(TAKES), accept=(0, 1, 2))


def _highest_free(end: Address, taken: Collection[Address]) -> Address:
    for below in range(1, 17):
        address = end - below
        if address not in taken:
            return address
    raise Refused(f"no address below {end} is free for a user of our own", "take one computer less: --computers")


def _ask(channel: LocalChannel, *question: str) -> list[dict[str, Any]]:
    """`ip -json` answers with a list, of which what knows nothing of the question is empty."""
    ran = channel.run(("ip", "-json", *question), patience=Patience(TAKES), changes=False)
    answers = [answer for answer in json.loads(ran.stdout or "[]") if answer]
    if not answers:
        raise Refused(f"ip {' '.join(question)} says nothing", "is the lab's network up? vcl up")
    return answers
