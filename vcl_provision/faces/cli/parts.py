"""All commands of `vcl`, in the order in which they are listed, with what is said of them there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vcl_provision.faces.cli.later import Part

LISTED: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "A lab of your own": {
        "labs": {
            "up": "Bring up a lab on this machine.",
            "down": "Take the lab down: nothing is left running.",
            "demo": "Show the whole way of one reservation.",
        },
    },
    "Reservations": {
        "requests": {
            "reserve": "Reserve a machine with an image on it.",
            "status": "List reservations and how they go.",
            "show": "Show one reservation: its times, its machine, its steps.",
            "explain": "Say why: what happened, happens, is wrong, can follow, is to be done.",
            "connect": "Log in to a reserved machine.",
            "end": "Give a reservation back.",
            "extend": "Let a reservation last longer (or shorter).",
            "log": "Print the journal: what was done, when, by which command.",
        },
    },
    "What there is": {
        "listings": {
            "computers": "List computers: what each does, for whom, what it holds.",
            "hosts": "List VM hosts: what their disks have free, and whether loads are refused now.",
            "users": "Who may reserve.",
        },
        "images": {"images": "Images, and the repository that they come from."},
    },
    "Images": {
        "building": {
            "build": "Build a virtual machine: its disks, and what starts it; or an image that people can reserve.",
        },
        "builds": {"builds": "Images that are being built: the queue."},
    },
    "Running a management node": {
        "administration": {
            "module": "Modules: what drives hypervisors and guests.",
            "db": "The database.",
            "daemon": "The management node.",
        },
    },
}
"""Panel, module of this package, command."""


def parts() -> Iterator[Part]:
    """The same as one list."""
    for panel, modules in LISTED.items():
        for module, commands in modules.items():
            for name, about in commands.items():
                yield Part(name=name, module=module, panel=panel, about=about)
