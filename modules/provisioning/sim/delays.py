"""How long things take: short strings such as `0.5`, `uniform(0.1, 0.5)`, `lognormal(20, 0.2)`, read once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from random import Random

Draw = Callable[[Random], float]

_SPEC = re.compile(r"\s*([a-z]+)\s*\(([^()]*)\)\s*\Z")


def _constant(value: float) -> Draw:
    return lambda _: value


def _uniform(low: float, high: float) -> Draw:
    return lambda random: random.uniform(low, high)


def _lognormal(median: float, sigma: float) -> Draw:
    return lambda random: median * math.exp(random.gauss(0.0, sigma))


def _exponential(mean: float) -> Draw:
    return lambda random: random.expovariate(1.0 / mean)


def _triangular(low: float, mode: float, high: float) -> Draw:
    return lambda random: random.triangular(low, high, mode)


_SHAPES: dict[str, tuple[int, Callable[..., Draw]]] = {
    "constant": (1, _constant),
    "uniform": (2, _uniform),
    "lognormal": (2, _lognormal),
    "exponential": (1, _exponential),
    "triangular": (3, _triangular),
}
"""Name: how many numbers it takes (seconds; a lognormal's second is its sigma), what draws from it."""


@cache
def delay(spec: str) -> Draw | None:
    """What draws seconds as `spec` says; None if it says that nothing is to be waited for. Raises ValueError."""
    shape, numbers = _read(spec.strip() or "0")
    if shape not in _SHAPES:
        raise ValueError(f"a delay cannot be {spec!r}: there is {', '.join(_SHAPES)}, or a number of seconds")
    wanted, make = _SHAPES[shape]
    if len(numbers) != wanted or any(not 0 <= n < math.inf for n in numbers):
        raise ValueError(f"a delay cannot be {spec!r}: {shape} takes {wanted} numbers, none below zero")
    return make(*numbers) if any(numbers) else None


def _read(spec: str) -> tuple[str, list[float]]:
    match = _SPEC.match(spec)
    shape, inner = (match[1], match[2].split(",")) if match else ("constant", [spec])
    try:
        return shape, [float(number) for number in inner]
    except ValueError:
        raise ValueError(f"a delay cannot be {spec!r}: write it like '0.5' or 'uniform(0.1, 0.5)'") from None
