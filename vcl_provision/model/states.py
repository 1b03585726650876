"""The words: states, events, endings. Apache VCL's own, since its users know them."""

from __future__ import annotations

from enum import StrEnum


class RequestState(StrEnum):
    """Where a request is in its life; `workflow/lifecycle.py` has the edges."""

    NEW = "new"
    RELOAD = "reload"
    RESERVED = "reserved"
    INUSE = "inuse"
    TIMEOUT = "timeout"
    DELETED = "deleted"
    RECLAIM = "reclaim"
    COMPLETE = "complete"
    FAILED = "failed"


class Event(StrEnum):
    """What a handler reports, or what a user does; together with the state it says which state follows."""

    LOADED = "loaded"
    CONNECTED = "connected"
    NO_ACKNOWLEDGEMENT = "no_acknowledgement"
    NO_LOGIN = "no_login"
    LEFT = "left"
    ENDED = "ended"
    DELETED = "deleted"
    WITHDRAWN = "withdrawn"
    MOVED = "moved"
    RECLAIMED = "reclaimed"
    CLOSED = "closed"
    GAVE_UP = "gave_up"


class ComputerState(StrEnum):
    """What a computer is doing; only `available` ones are given to the next request."""

    AVAILABLE = "available"
    RELOADING = "reloading"
    RESERVED = "reserved"
    INUSE = "inuse"
    TIMEOUT = "timeout"
    FAILED = "failed"
    MAINTENANCE = "maintenance"
    VMHOSTINUSE = "vmhostinuse"


class ComputerKind(StrEnum):
    """What a computer is: VCL's three, of which a virtual machine is a slot with a name on a VM host."""

    BLADE = "blade"
    LAB = "lab"
    VIRTUALMACHINE = "virtualmachine"


class Ending(StrEnum):
    """How a reservation ended, as the accounting log says it (VCL's values of `log.ending`)."""

    DELETED = "deleted"
    RELEASED = "released"
    FAILED = "failed"
    FAILEDTEST = "failedtest"
    NOACK = "noack"
    NOLOGIN = "nologin"
    TIMEOUT = "timeout"
    EOR = "EOR"
    NONE = "none"


class NodeStatus(StrEnum):
    """What must be done before a user may have the machine: nothing, the post-load steps, or a whole load."""

    READY = "READY"
    POST_LOAD = "POST_LOAD"
    RELOAD = "RELOAD"


class Power(StrEnum):
    """What `control_VM` can be asked to do."""

    ON = "on"
    OFF = "off"
    RESET = "reset"
    SUSPEND = "suspend"
    RESUME = "resume"
    REMOVE = "remove"


class FaultKind(StrEnum):
    """What happens next: ask again, refuse, fail."""

    TRANSIENT = "transient"
    REFUSED = "refused"
    COMMAND_FAILED = "command_failed"
    TIMED_OUT = "timed_out"
    BROKEN_MODULE = "broken_module"
