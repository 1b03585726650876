"""Who handles which state, for how long, and how patiently: a line a state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vcl_provision.model.states import RequestState
from vcl_provision.workflow.handlers import closing, failed, inuse, new, reclaim, reload, reserved
from vcl_provision.workflow.outcome import Outcome
from vcl_provision.workflow.work import Work


@dataclass(frozen=True)
class Route:
    """`within_time`: a turn never goes on beyond the end of the reserved time.

    `gives_up`: False where a user is in, or where giving up would leave something behind: it is then tried again, ever
    more slowly, for as long as it takes.
    """

    handle: Callable[[Work], Outcome]
    gives_up: bool = False
    within_time: bool = False


ROUTES: dict[RequestState, Route] = {
    RequestState.NEW: Route(new.handle, gives_up=True, within_time=True),
    RequestState.RELOAD: Route(reload.handle, gives_up=True, within_time=True),
    RequestState.RESERVED: Route(reserved.handle, gives_up=True, within_time=True),
    RequestState.INUSE: Route(inuse.handle, within_time=True),
    RequestState.TIMEOUT: Route(closing.handle),
    RequestState.DELETED: Route(closing.handle),
    RequestState.RECLAIM: Route(reclaim.handle),
    RequestState.FAILED: Route(failed.handle),
}
