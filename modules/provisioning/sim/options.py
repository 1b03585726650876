"""The settings `[modules.sim]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .delays import Draw, delay
from .faults import CALLS


@dataclass(frozen=True, kw_only=True)
class Options:
    """`path` is the hypervisor's file; empty: the VM host's address is. A delay is `"0.5"` or `"uniform(0.1, 0.5)"`."""

    path: str = ""
    delays: Mapping[str, str] = field(default_factory=dict[str, str])
    """Seconds for a call, by name: `load`, `boot` (until the guest answers), `guest.add_user`, `guest` (all those)."""
    users_come: str = ""
    """Seconds after which a user who was let in logs in by themselves; empty: they do not."""
    users_stay: str = ""
    """Seconds after which they leave again; empty: they stay."""
    seed: int | None = None
    image_bytes: int = 1_000_000_000
    disk_bytes: int = 1_000_000_000_000
    """The disk of each host, on which both images and machines lie."""
    machine_bytes: int = 0
    """What each machine takes of it."""
    absent: Sequence[str] = ("no-such-image",)
    """Images that the repository does not hold; it holds all others."""

    def __post_init__(self) -> None:
        for call, spec in self.delays.items():
            if call not in CALLS and not call.startswith("guest."):
                raise ValueError(f"delays: there is no call {call!r}")
            delay(spec)
        delay(self.users_come)
        delay(self.users_stay)

    def delay(self, call: str) -> Draw | None:
        """What draws the seconds of a call; None if it takes no time."""
        if not self.delays:
            return None
        spec = self.delays.get(call) or self.delays.get(call.partition(".")[0]) or self.delays.get("*")
        return delay(spec) if spec else None
