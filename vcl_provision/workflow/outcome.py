"""What a handler says when it is done with its turn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vcl_provision.model.faults import Fault
from vcl_provision.model.lab import Address
from vcl_provision.model.states import Event


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What the handler learned and the next one needs; None leaves what is there."""

    granted_address: Address | None = None
    connected_at: datetime | None = None
    last_seen_at: datetime | None = None
    notices_sent: int | None = None


NOTHING = Noted()


@dataclass(frozen=True, kw_only=True)
class Done:
    """This reservation's part in the present state is over; the lifecycle table says which state follows."""

    event: Event
    noted: Noted = NOTHING


@dataclass(frozen=True, kw_only=True)
class Again:
    """Not yet: to be asked again after so many seconds, or sooner if something happens to the request.

    `because` is shown to people. `attempt` counts a failed try; plain waiting is none.
    """

    after: float
    because: str = ""
    attempt: bool = False
    noted: Noted = NOTHING


@dataclass(frozen=True, kw_only=True)
class GaveUp:
    """It cannot be done: undo, failed, say why. `blame_computer`: evidence against the computer."""

    fault: Fault
    blame_computer: bool = True


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The computer's VM host has no room, and nothing lies on it: to be done on another host's computer.

    If no other one will do it has failed, with the `fault` of the full one.
    """

    fault: Fault


Outcome = Done | Again | GaveUp | Elsewhere
