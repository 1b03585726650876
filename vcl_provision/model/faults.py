"""What can go wrong. The class says what happens next, the fields say what happened, the hint says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcl_provision.model.states import FaultKind


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that ended: its argument list (secrets redacted), exit status, both streams, seconds it took."""

    argv: Sequence[str]
    status: int
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A failure as a value: kept with the reservation, shown to people."""

    kind: FaultKind
    said: str
    hint: str = ""


class ProvisionError(Exception):
    """Root of what we raise on purpose; not meant to be raised itself."""

    kind = FaultKind.COMMAND_FAILED

    def __init__(self, said: str, hint: str = "") -> None:
        super().__init__(said)
        self.said = said
        self.hint = hint

    @property
    def fault(self) -> Fault:
        return Fault(kind=self.kind, said=self.said, hint=self.hint)


class Transient(ProvisionError):
    """Not now, perhaps later: asked again with a growing delay, within the reservation's time."""

    kind = FaultKind.TRANSIENT


class HostUnreachable(Transient):
    """The VM host itself does not answer: opens its circuit breaker, and is not held against the computer."""


class Refused(ProvisionError):
    """Will not work however often it is tried: the reservation fails and the user is told why."""

    kind = FaultKind.REFUSED


class NoRoom(Refused):
    """A disk is full, or would be: what else is sent there is refused too, until there is room."""


class CommandFailed(ProvisionError):
    """A command ended with a status other than zero; `ran` has its output. Tried once more, then failed."""

    kind = FaultKind.COMMAND_FAILED

    def __init__(self, said: str, hint: str = "", *, ran: Ran) -> None:
        super().__init__(said, hint)
        self.ran = ran


class TimedOut(ProvisionError):
    """A wait or a command reached its deadline."""

    kind = FaultKind.TIMED_OUT


class ConnectionDropped(Transient):
    """The way to a machine broke in the middle of a command: nobody knows whether the command was done."""


class WrongHostKey(Refused):
    """A machine answered with another host key than the one it was given: it is not the machine that we loaded."""


class BrokenModule(Refused):
    """A module is not there, or cannot be used as it is: its author or the administrator must act."""

    kind = FaultKind.BROKEN_MODULE


class Cancelled(Exception):
    """The work is to stop: its request was deleted, its time is up, its lease is lost or the daemon stops."""


class LeaseLost(Cancelled):
    """Another node has the claim now: touch nothing more."""


class NotAllowed(Exception):
    """An event does not follow a state."""


class SettingsError(Exception):
    """The settings cannot be used; the message names the file, the key and what to do."""
