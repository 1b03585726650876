"""Sizes as people write them."""

from __future__ import annotations

import re

from vcl_provision.model.faults import Refused

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_bytes(text: str) -> int:
    """`8 GiB`, `8G`, `512 MB` in bytes, units of 1024; a bare number counts MiB, as in VMBuilder.

    Raises Refused if it is none, or nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size == 0:
        raise Refused(f"{text!r} is no size", "like 8 GiB, 8G, 512M; a bare number is MiB")
    return size
