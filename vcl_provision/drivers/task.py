"""What a module is given to work with: waiting, progress, undo, commands, the guest. The rest it gets as values."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.images.repository import Repository, open_repository
from vcl_provision.model.faults import Ran, Refused, Transient
from vcl_provision.model.lab import Computer, VmHost, VmProfile
from vcl_provision.model.space import Space
from vcl_provision.model.steps import Step

T = TypeVar("T")


class Effects(Protocol):
    """Where undo is written down before the effect: durable when `record` returns."""

    def record(self, action: str, *, scope: str, **arguments: object) -> None: ...


class Progress(Protocol):
    """Hears what is being done now; shown to the user, kept in the load log."""

    def say(self, step: Step, info: str = "") -> None: ...


class Guests(Protocol):
    """The kept connections into guests: one each, reused by every later piece of work on that computer."""

    def channel(self, computer: Computer, *, patience: Patience) -> Channel: ...

    def forget(self, computer: Computer) -> None: ...


class Kept(Protocol):
    """Things that cost much to open (a hypervisor connection), shared by all work of one daemon, closed with it."""

    def get(self, key: str, make: Callable[[], T], close: Callable[[T], None]) -> T: ...

    def drop(self, key: str) -> None: ...


class Locks(Protocol):
    """Locks over all management nodes: a context manager, held until left or until the node dies."""

    def hold(self, name: str, *, patience: Patience) -> AbstractContextManager[None]: ...

    def together(self, name: str, *, patience: Patience) -> AbstractContextManager[None]:
        """Held by any number at a time, while nobody holds it alone."""
        ...


class Pull(Protocol):
    """Where a machine can fetch what it is told at its first boot, instead of being given it."""

    def offer(self, computer: Computer, firstboot: FirstBoot, *, mac: str, patience: Patience) -> str:
        """The address that the machine with this MAC fetches it from, once. As secret as what lies there.

        Offering it again withdraws what was offered before. Raises Refused, TimedOut, Cancelled.
        """
        ...


class Room(Protocol):
    """Room on the disks of VM hosts, over all management nodes: what is on its way to one is counted there."""

    def for_masters(
        self, host: VmHost, needed: Callable[[], int], measure: Callable[[], Space], *, patience: Patience
    ) -> AbstractContextManager[None]:
        """Room for so many bytes of masters, kept for the work inside, which brings them.

        Both are asked again while others bring theirs: what these bring may be what is needed here. Raises Refused if
        it does not fit, TimedOut, Cancelled.
        """
        ...


class RoomAlone:
    """Nobody else brings anything."""

    @contextmanager
    def for_masters(
        self, host: VmHost, needed: Callable[[], int], measure: Callable[[], Space], *, patience: Patience
    ) -> Generator[None]:
        """See Room."""
        patience.check()
        measure().require(needed(), host.profile.keep_free_mb)
        yield


class NoPull:
    """There is no such place."""

    def offer(self, computer: Computer, *_: object, **__: object) -> str:
        """See Pull. Refuses."""
        said = f"{computer.name} is to fetch what it is told, and this management node offers nothing"
        raise Refused(said, "set pull_listen in [firstboot] of vcld.toml, or another first_boot in its VM profile")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One piece of work, as its module sees it. `owner` is the tag for whatever is made: ours, and of this lab.

    `computer` is what the work is about, as it was when the work began; what an undo needs that is called later.
    """

    owner: str
    computer: Computer
    patience: Patience
    effects: Effects
    progress: Progress
    local: Channel
    guests: Guests
    kept: Kept
    locks: Locks
    pull: Pull = field(default_factory=NoPull)
    room: Room = field(default_factory=RoomAlone)

    def say(self, step: Step, info: str = "") -> None:
        """Tells people what is done now."""
        self.progress.say(step, info)

    def record(self, action: str, *, scope: str = "computer", **arguments: object) -> None:
        """Writes down how to undo what comes next: the module's `undo_<action>(**arguments)`, of plain JSON values.

        `scope`: `computer` lives until the computer's next load, `reservation` until the reservation ends. Call it
        before the effect; undoing something that never happened must succeed.
        """
        self.effects.record(action, scope=scope, **arguments)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", changes: bool = True, accept: Sequence[int] = (0,)
    ) -> Ran:
        """Runs a command on the management node. Raises CommandFailed, TimedOut, Cancelled."""
        return self.local.run(argv, patience=self.patience, stdin=stdin, changes=changes, accept=accept)

    def repository(self, profile: VmProfile) -> Repository:
        """Where a VM host's images come from; its connection is kept. Raises Refused for an address that is none."""
        address = profile.repository_path
        return self.kept.get(f"repository {address}", lambda: open_repository(address), Repository.close)

    def wait_until(self, ask: Callable[[], T | None], what: str, *, at_most: float | None = None, hint: str = "") -> T:
        """Asks until the answer is true; `what` completes "waited N s for ...". Raises TimedOut, Cancelled."""
        patience = self.patience if at_most is None else self.patience.at_most(at_most)
        return patience.until(ask, what, hint=hint)

    def reach(self, computer: Computer, *, alive: Callable[[], bool]) -> Channel:
        """Waits until the guest lets us in, with the host key that it was given; the connection is kept.

        `alive` is asked meanwhile, so a machine that died ends the wait. How a load ends.
        Raises Refused if it died or answers with another key, TimedOut, Cancelled.
        """
        return reach(self, computer, alive)


def reach(task: Task, computer: Computer, alive: Callable[[], bool]) -> Channel:
    """See Task.reach; here so that the value above stays a list of what there is."""

    def ask() -> Channel | None:
        if not alive():
            raise Refused(f"{computer.name} stopped while it booted", "look at its console log on the VM host")
        try:
            return task.guests.channel(computer, patience=task.patience.at_most(10))
        except Transient:
            return None

    what = f"{computer.name} to answer at {computer.private_address}"
    return task.patience.until(
        ask, what, every=0.1, hint="it runs but does not let us in: look at its console and network"
    )
