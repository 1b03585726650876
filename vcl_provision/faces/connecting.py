"""Getting a user into their machine: where they come from, and an ssh that believes no other machine to be it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from vcl_provision.model.faults import Refused


@dataclass(frozen=True, kw_only=True)
class WayIn:
    """How a user gets into one machine. `host_key` is the only one that the machine may answer with.

    `come_from` is the address that ssh is bound to, empty for whatever the system takes; `key` the user's private key.
    """

    user: str
    address: str
    host_key: str
    come_from: str = ""
    key: Path | None = None

    def ssh(self, command: Sequence[str] = ()) -> list[str]:
        """The argument list; the command goes to the user's shell there, as with ssh.

        Nothing that the user's own files know of hosts counts, nor is anything written to them.
        """
        known = f"KnownHostsCommand=/bin/echo {self.address} {self.host_key}"
        options = [known, "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes"]
        options += ["LogLevel=ERROR", "ConnectTimeout=60"]
        if self.key:
            options += ["IdentitiesOnly=yes", f"IdentityFile={self.key}"]
        argv = ["ssh", *(part for option in options for part in ("-o", option))]
        argv += ["-b", self.come_from] if self.come_from else []
        return [*argv, f"{self.user}@{self.address}", *command]


def own_address(towards: str) -> str:
    """Our address on the way to that one: no packet is sent. Raises Refused if there is no way, or it is no address."""
    try:
        family = socket.AF_INET if ip_address(towards).version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((towards, 9))
            return str(asked.getsockname()[0])
    except (OSError, ValueError) as no:
        raise Refused(f"there is no way from here to {towards}", "say where you come from: --address") from no
