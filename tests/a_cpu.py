"""The CPU of emulated guests: as the libvirt module gives it, so that a bare boot and a load can be compared."""

from __future__ import annotations

CPU = "max"
"""In QEMU's own words. A unit test holds it against the module."""
EMULATED = "tcg,tb-size=64"
"""The accelerator of those guests, with room for translated code as the module gives it: held by a unit test too."""
