"""Programs that leave nothing behind: they die with us, and what they mount nobody else sees."""

from __future__ import annotations

from collections.abc import Sequence

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Before an argument list. However this process ends, the program does not go on writing."""

_PRIVATE = (*DIES_WITH_US, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL")


def in_private_mounts(script: str, *arguments: str) -> Sequence[str]:
    """A shell script whose mounts are gone when it ends or is killed: the kernel undoes them with their namespace.

    It has a process namespace of its own too, so that whatever it started dies with it.
    """
    return (*_PRIVATE, "sh", "-euc", script, "sh", *arguments)
