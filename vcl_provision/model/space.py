"""Room on disks: how much of one stays free, and what is said when something would not fit."""

from __future__ import annotations

from dataclasses import dataclass

from vcl_provision.model.faults import NoRoom

SHARE, MOST = 50, 1 << 30
"""What stays free if nobody said how much: this part of the disk (a fiftieth), but no more than so many bytes."""

A_MACHINE = 128 << 20
"""Bytes reckoned for a new machine's disks: they begin empty, and a guest writes far less until it is up.

How far they may grow is not reckoned: a host promises far more than it has, and few machines fill their disks."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """A disk as it is now: a folder on it, its size, and what is free, in bytes."""

    path: str
    total: int
    free: int

    def kept(self, keep_free_mb: int | None = None) -> int:
        """Bytes that are to stay free: so many MiB (of a VM profile), else the usual part."""
        return min(MOST, self.total // SHARE) if keep_free_mb is None else keep_free_mb << 20

    def fits(self, needed: int, keep_free_mb: int | None = None) -> bool:
        """Whether so many bytes more leave free what is to stay so; nothing always fits."""
        return not needed or self.free >= needed + self.kept(keep_free_mb)

    def require(self, needed: int, keep_free_mb: int | None = None) -> None:
        """Raises NoRoom, naming path, free and needed bytes, if they do not fit."""
        if not self.fits(needed, keep_free_mb):
            raise full(self.path, free=self.free, needed=needed, kept=self.kept(keep_free_mb))


@dataclass(frozen=True, kw_only=True)
class HostDisks:
    """The disks of a VM host on which masters and machines lie; they may be the same one."""

    masters: Space
    machines: Space


def full(path: str, *, free: int, needed: int | None, kept: int = 0) -> NoRoom:
    """The error for a disk without room; `kept` bytes are to stay free."""
    wanted = "" if needed is None else f", {needed} are needed"
    beside = f" and {kept} stay free" if kept else ""
    hint = "make room there (vcl images gc removes what nothing needs), or move the folder to a larger disk"
    return NoRoom(f"{path} is full: {free} bytes are free{wanted}{beside}", hint)
