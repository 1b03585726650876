"""The distributions that we know how to build. To add one: a class like debian.py's, and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from vcl_provision.images.builder.distributions.busybox import BusyBox
from vcl_provision.images.builder.distributions.debian import Debian
from vcl_provision.images.builder.distributions.distribution import Distribution, Guest
from vcl_provision.images.builder.distributions.ubuntu import Ubuntu

DISTRIBUTIONS: Mapping[str, Distribution] = {one.name: one for one in (Debian(), Ubuntu(), BusyBox())}

__all__ = ["DISTRIBUTIONS", "Distribution", "Guest"]
