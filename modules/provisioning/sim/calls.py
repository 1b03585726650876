"""Each call's way in: it takes its time, and meets its scripted faults."""

from __future__ import annotations

from vcl_provision.drivers import Patience

from .faults import Twist, strike, suffer, wait
from .options import Options
from .world import World


def enter(world: World, options: Options, patience: Patience, call: str, *, host: str, computer: str) -> Twist:
    """Waits as long as the call takes; says what it is to do wrongly.

    Raises what is scripted, TimedOut, Cancelled.
    """
    patience.check()
    draw = options.delay(call)
    if draw is not None:
        wait(patience, draw(world.random), call)
    met = strike(world, call, host=host, computer=computer)
    return Twist.NONE if met is None else suffer(met, patience)
