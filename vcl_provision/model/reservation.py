"""What was asked for, and who works on it now. Every moment is an aware datetime of the database's clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from vcl_provision.model.lab import Address
from vcl_provision.model.options import Seconds
from vcl_provision.model.states import RequestState


@dataclass(frozen=True, kw_only=True)
class Timings:
    """VCL's timings, in seconds, with the affiliation's own where it has them (reference: VCL's `variable` table)."""

    acknowledgetimeout: Seconds = 900
    initialconnecttimeout: Seconds = 900
    reconnecttimeout: Seconds = 900
    inuse_check: Seconds = 300
    end_notice_first: Seconds = 600
    end_notice_second: Seconds = 300
    ignore_connections_gte: Seconds = 86400
    connect_poll: Seconds = 5
    """Between two looks for the user's first connection; VCL looks each 15 s."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked for. `remote_address` is where the user acknowledged from, None before that."""

    id: int
    state: RequestState
    last_state: RequestState
    start_time: datetime
    end_time: datetime
    remote_address: Address | None = None
    acknowledged_at: datetime | None = None
    reservations: int = 1
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """One computer of a request. `state_since` is when the request came into its present state.

    `occupies`: this reservation has the computer now; nothing else touches it until it is given back.
    """

    id: int
    request_id: int
    parent: bool
    state_since: datetime
    occupies: bool = False
    attempts: int = 0
    granted_address: Address | None = None
    connected_at: datetime | None = None
    last_seen_at: datetime | None = None
    notices_sent: int = 0


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Who works on a reservation: a lease with a fresh token, of which every write of the outcome is asked.

    `state` is the request's state when it was claimed; `due_at` when the work was to begin.
    """

    reservation_id: int
    request_id: int
    token: UUID
    state: RequestState
    host_id: int | None
    due_at: datetime
    claimed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """What a renewed lease is told: the request as it is now, so that work nobody wants is stopped."""

    reservation_id: int
    token: UUID
    state: RequestState
    remaining: float
    """Seconds until the reserved time is over, on the database's clock."""
    lease: float
    """Seconds that the lease lasts from now on."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Something done outside, and how it is undone: `module.undo_<action>(**arguments)`.

    `kind` is `provisioning` or `os`; `scope` says how long it lives: `reservation`, or `computer` until its next load.
    """

    id: int
    computer_id: int
    reservation_id: int | None
    kind: str
    module: str
    scope: str
    action: str
    arguments: dict[str, object]
