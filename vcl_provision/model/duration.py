"""Lengths of time as people read them."""

from __future__ import annotations

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def spoken(seconds: float) -> str:
    """Seconds in the two greatest units: `0.04 s`, `2.4 s`, `12 s`, `15 min`, `1 h 30 min`, `2 d 3 h`."""
    if seconds < 0.995:
        return f"{max(seconds, 0):.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])
