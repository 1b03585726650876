"""What becomes of a handler that raised: asked again, or given up."""

from __future__ import annotations

from vcl_provision.model.faults import (
    CommandFailed,
    Fault,
    HostUnreachable,
    ProvisionError,
    Refused,
    TimedOut,
    Transient,
)
from vcl_provision.model.states import FaultKind
from vcl_provision.workflow.outcome import Again, GaveUp, Outcome

TRIES = {Transient: 8, CommandFailed: 2, TimedOut: 2}
"""How often a failure of each class is taken in one state before giving up."""

LONGEST = 60.0
"""Seconds, the longest wait between two tries."""


def verdict(error: Exception, *, attempts: int, gives_up: bool) -> Outcome:
    """The outcome of an error. `attempts`: failed tries in this state before this one."""
    if isinstance(error, HostUnreachable):
        return Again(after=backoff(attempts), because=error.said)
    fault = fault_of(error)
    if gives_up and (isinstance(error, Refused) or attempts + 1 >= _tries(error)):
        return GaveUp(fault=fault, blame_computer=not isinstance(error, Refused))
    return Again(after=backoff(attempts), because=fault.said, attempt=True)


def backoff(attempts: int) -> float:
    """Seconds before the next try: half a second, doubled each time, never above LONGEST."""
    return min(LONGEST, 0.5 * 2.0 ** min(attempts, 10))


def fault_of(error: Exception) -> Fault:
    """Any exception as a fault: one that nobody meant is the module's, and says so."""
    if isinstance(error, ProvisionError):
        return error.fault
    said = f"{type(error).__name__}: {error}"
    return Fault(kind=FaultKind.BROKEN_MODULE, said=said, hint="a defect in a module or in vcld: see the daemon's log")


def _tries(error: Exception) -> int:
    return next((tries for kind, tries in TRIES.items() if isinstance(error, kind)), 1)
