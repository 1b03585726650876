"""The one place that imports libvirt's binding, so that a machine without it can still be told what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from vcl_provision.drivers import Refused

HOW_TO_INSTALL = "libvirt for Python: apt-get install libvirt-dev gcc pkg-config, then pip install libvirt-python"


class _Absent:
    """Stands where the binding would; whoever needs it learns how to get it."""

    def __getattr__(self, name: str) -> object:
        raise Refused("Python's libvirt binding is not installed", HOW_TO_INSTALL)


if TYPE_CHECKING:
    import libvirt as libvirt  # noqa: PLC0414 - the neighbours' types

    INSTALLED = True
else:
    try:
        import libvirt

        INSTALLED = True
    except ModuleNotFoundError:
        libvirt, INSTALLED = _Absent(), False


def numbers(said: object) -> list[int]:
    """What `info` and `state` answer: lists of numbers, which the binding's annotations call strings."""
    return cast("list[int]", said)


__all__ = ["HOW_TO_INSTALL", "INSTALLED", "libvirt", "numbers"]
