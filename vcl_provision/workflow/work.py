"""All that a handler may see and do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.provisioner import Provisioner
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.lab import Computer, Revision, User
from vcl_provision.model.reservation import Request, Reservation
from vcl_provision.model.steps import Step


class Record(Protocol):
    """What must be on disk before the handler goes on: facts about the computer, undone effects, progress."""

    def say(self, step: Step, info: str = "") -> None: ...

    def occupy(self) -> Computer | None:
        """Takes the computer for this reservation, and tells what is recorded of it; None while another one has it."""
        ...

    def note(self, said: str) -> None:
        """One line for the journal."""
        ...

    def loading(self) -> tuple[Computer, FirstBoot]:
        """Makes the identity of the next load and records it; the computer as it is from here on."""
        ...

    def prepared(self) -> None:
        """The computer holds the revision of this work, and its post-load steps are done."""

    def tainted(self) -> None:
        """From here on a user could have been in."""

    def undo(self, *, scope: str) -> None:
        """Plays outstanding effects backwards: the `reservation`'s only, or all that lie on the `computer`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """One reservation's turn. Values of one moment, `now` on the database's clock; the modules ask the world."""

    request: Request
    reservation: Reservation
    computer: Computer
    revision: Revision
    user: User
    now: datetime
    provisioner: Provisioner[Any]
    guest: Guest[Any]
    record: Record
