"""What the machine that builds images must be, and the programs that it must have."""

from __future__ import annotations

from collections.abc import Mapping

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.model.faults import Refused

ARCHITECTURE = "x86_64"
_ASK = 'id -u; uname -m; for tool; do command -v "$tool" >/dev/null || echo "$tool"; done'


def require_host(tools: Mapping[str, str], *, for_what: str, channel: Channel, patience: Patience) -> None:
    """`tools`: program to the Debian package that has it. Asks the channel, whose PATH counts.

    Raises Refused if it is not root there, or not our architecture; or naming every program that is missing, with one
    command that installs them all.
    """
    answer = channel.run(("sh", "-c", _ASK, "sh", *tools), patience=patience, name="look for programs", changes=False)
    uid, architecture, *missing = answer.stdout.split()
    if missing:
        named = ", ".join(f"{tool} (package {tools[tool]})" for tool in missing)
        packages = " ".join(sorted({tools[tool] for tool in missing}))
        raise Refused(f"{for_what} needs {named}", f"apt-get install --no-install-recommends {packages}")
    if uid != "0":
        raise Refused(f"{for_what} needs root", "run it with sudo, or take an image that is built already")
    if architecture != ARCHITECTURE:
        raise Refused(f"{for_what} needs {ARCHITECTURE}, this is {architecture}", "build it elsewhere and copy it here")
