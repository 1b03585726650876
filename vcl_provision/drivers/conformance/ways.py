"""Ways into guests that count, break and fail, as the ways into real ones do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.drivers.task import Guests
from vcl_provision.model.faults import CommandFailed, Ran
from vcl_provision.model.lab import Computer

Hook = Callable[[Sequence[str]], None]


class HookedGuests:
    """Calls `before` and `after` with each argument list that is run inside; either may raise, or kill."""

    def __init__(self, guests: Guests, *, before: Hook, after: Hook) -> None:
        self._guests = guests
        self._hooks = (before, after)

    def channel(self, computer: Computer, *, patience: Patience) -> Channel:
        return _HookedChannel(self._guests.channel(computer, patience=patience), *self._hooks)

    def forget(self, computer: Computer) -> None:
        self._guests.forget(computer)


class FailingGuests:
    """In which each command ends with status 1."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests

    def channel(self, computer: Computer, *, patience: Patience) -> Channel:
        return _FailingChannel(self._guests.channel(computer, patience=patience))

    def forget(self, computer: Computer) -> None:
        self._guests.forget(computer)


class _FailingChannel:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def run(
        self,
        argv: Sequence[str],
        *,
        patience: Patience,
        stdin: bytes = b"",  # noqa: ARG002 - nothing is run
        name: str = "",
        changes: bool = True,  # noqa: ARG002 - nothing is run
        accept: Sequence[int] = (0,),
    ) -> Ran:
        patience.check()
        ran = Ran(argv=argv, status=1, stderr="the kit lets nothing succeed")
        if ran.status not in accept:
            raise CommandFailed(f"{name or argv[0]} failed", ran=ran)
        return ran

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:  # noqa: ARG002 - as above
        raise CommandFailed(f"{path} was not written", ran=Ran(argv=["put", path], status=1))

    def close(self) -> None:
        self._channel.close()


class _HookedChannel:
    def __init__(self, channel: Channel, before: Hook, after: Hook) -> None:
        self._channel = channel
        self._before = before
        self._after = after

    def run(
        self,
        argv: Sequence[str],
        *,
        patience: Patience,
        stdin: bytes = b"",
        name: str = "",
        changes: bool = True,
        accept: Sequence[int] = (0,),
    ) -> Ran:
        self._before(argv)
        ran = self._channel.run(argv, patience=patience, stdin=stdin, name=name, changes=changes, accept=accept)
        self._after(argv)
        return ran

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        self._before(["put", path])
        self._channel.put(path, content, mode=mode, patience=patience)
        self._after(["put", path])

    def close(self) -> None:
        self._channel.close()
