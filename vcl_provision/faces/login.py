"""`vcl connect`: from a reserved machine to a shell on it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence

from rich.console import Console

from vcl_provision.faces.connecting import WayIn, own_address
from vcl_provision.faces.lab.folder import LabFolder
from vcl_provision.faces.story import Story, read_story
from vcl_provision.faces.watch import watch
from vcl_provision.model.faults import Refused
from vcl_provision.model.states import RequestState
from vcl_provision.store import requests
from vcl_provision.store.database import Listener
from vcl_provision.store.requests import Machine

OPEN = (RequestState.RESERVED, RequestState.INUSE)
SIMULATED_USER = "192.0.2.1"
"""Where the user of a simulated machine is: an address of the documentation, since there is no way to it."""


def let_in(listener: Listener, number: int, lab: LabFolder | None, console: Console, *, come_from: str = "") -> WayIn:
    """Waits until the machine is ready, says where the user is, waits until it is open for them.

    Raises NoSuchRequest, Refused if it is over or there is no way to the machine, DatabaseAway.
    """
    story = _until(listener, number, console, lambda story: story.status.state in OPEN)
    machine = story.machines[0]
    address = come_from or _from_where(machine, lab)
    if story.status.remote_address != address:
        requests.acknowledge(listener.connection, number, address)
    story = _until(listener, number, console, lambda story: story.granted)
    return WayIn(
        user=story.status.user,
        address=machine.address or "",
        host_key=machine.host_key or "",
        come_from=come_from,
        key=lab.user_key if lab and lab.user_key.exists() else None,
    )


def _from_where(machine: Machine, lab: LabFolder | None) -> str:
    return SIMULATED_USER if lab and lab.simulated else own_address(machine.address or "")


def print_command(way: WayIn, command: Sequence[str]) -> None:
    """For a shell to take."""
    print(shlex.join(way.ssh(command)))  # noqa: T201 - the answer itself, for a program to read


def become_ssh(way: WayIn, command: Sequence[str], console: Console) -> None:
    """This process becomes ssh. Raises Refused if there is none."""
    argv = way.ssh(command)
    console.print(f"ssh {way.user}@{way.address} ...", style="dim")
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - an argument list, and ssh is to have our terminal
    except FileNotFoundError as no:
        raise Refused("there is no ssh on this machine", "apt-get install openssh-client") from no


def _until(listener: Listener, number: int, console: Console, wanted: Callable[[Story], bool]) -> Story:
    story = read_story(listener.connection, number)
    if not wanted(story):
        story = watch(listener, number, console, until=wanted, seen=story.taken)
    if not wanted(story):
        raise Refused(f"request {number} is over: it is {story.status.state}", story.status.hint or "reserve anew")
    return story
