"""What the machine that builds images must be, and the programs that it must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.model.faults import Refused

ARCHITECTURE = "x86_64"
_MISSING = 'for tool; do command -v "$tool" >/dev/null || echo "$tool"; done'
_ASK = f"id -u; uname -m; {_MISSING}"


def require(tools: Mapping[str, str], *, for_what: str, channel: Channel, patience: Patience) -> None:
    """As `require_host`, for what needs neither root nor our architecture."""
    argv = ("sh", "-c", _MISSING, "sh", *tools)
    answer = channel.run(argv, patience=patience, name="look for programs", changes=False)
    _refuse(answer.stdout.split(), tools, for_what)


def require_host(
    tools: Mapping[str, str], *, for_what: str, channel: Channel, patience: Patience, root: bool = True
) -> None:
    """`tools`: program to the Debian package that has it. Asks the channel, whose PATH counts.

    Raises Refused if it is not root there (and has to be), or not our architecture; or naming every program that is
    missing, with one command that installs them all.
    """
    answer = channel.run(("sh", "-c", _ASK, "sh", *tools), patience=patience, name="look for programs", changes=False)
    uid, architecture, *missing = answer.stdout.split()
    _refuse(missing, tools, for_what)
    if root and uid != "0":
        raise Refused(f"{for_what} needs root", "run it with sudo, or take an image that is built already")
    if architecture != ARCHITECTURE:
        raise Refused(f"{for_what} needs {ARCHITECTURE}, this is {architecture}", "build it elsewhere and copy it here")


def _refuse(missing: Sequence[str], tools: Mapping[str, str], for_what: str) -> None:
    if missing:
        named = ", ".join(f"{tool} (package {tools[tool]})" for tool in missing)
        packages = " ".join(sorted({tools[tool] for tool in missing}))
        raise Refused(f"{for_what} needs {named}", f"apt-get install --no-install-recommends {packages}")
