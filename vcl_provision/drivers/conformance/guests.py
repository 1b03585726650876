"""Where an OS module is tried: on a machine that a provisioning module loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, cast

from vcl_provision.channels.keys import new_key
from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.conformance.bench import Bench, owner_of
from vcl_provision.drivers.conformance.ports import EffectFile, FileLocks, Steps
from vcl_provision.drivers.conformance.subject import Subject
from vcl_provision.drivers.conformance.ways import FailingGuests, Hook, HookedGuests
from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.task import Guests, Task
from vcl_provision.model.faults import ConnectionDropped
from vcl_provision.model.lab import Computer, Revision, User
from vcl_provision.model.options import read_table
from vcl_provision.model.secret import Secret

HOME = ip_address("192.0.2.7")
CAFE = ip_address("198.51.100.9")


@dataclass(kw_only=True)
class GuestBench:
    """An OS module, and a bench with the machine that it is tried on."""

    machine: Bench
    subject: Subject
    options_table: dict[str, object]

    def __post_init__(self) -> None:
        self.module = cast("type[Guest[Any]]", self.subject.module)
        options: type[object] = self.module.Options
        self.options = read_table(options, self.options_table, where=f"options of {self.subject.name}")
        keys = [new_key().public, new_key().public]
        self.user = User(id=1, name="vclcheck", affiliation="Local", keys=keys, password=Secret("Vcl-check-1!"))

    @property
    def revision(self) -> Revision:
        return self.machine.revision

    @property
    def computer(self) -> Computer:
        """The machine that answers. Raises NotApplicable if there is none."""
        return self.machine.running_machine()

    @property
    def effects(self) -> EffectFile:
        return EffectFile(self.machine.folder / f"{self.machine.computer.name}.guest.effects")

    def load(self) -> None:
        """A fresh machine, with its boot."""
        self.machine.empty()
        self.effects.forget()
        self.machine.tried = True
        self.machine.running = self.machine.load(waiting=True)

    def make(
        self, computer: Computer | None = None, *, guests: Guests | None = None, effects: EffectFile | None = None
    ) -> Guest[Any]:
        """The module for one piece of work."""
        computer = computer or self.computer
        task = Task(
            owner=owner_of(computer),
            computer=computer,
            patience=Patience(self.machine.against.boot),
            effects=effects or self.effects,
            progress=Steps(),
            local=self.machine.make().task.local,
            guests=guests or self._guests(computer),
            kept=self.machine.kept,
            locks=FileLocks(self.machine.folder),
        )
        return self.module(self.options, task)

    def named(self, name: str) -> User:
        return replace(self.user, name=name)

    def with_key(self, key: str) -> User:
        return replace(self.user, name="vclkeys", keys=[key])

    def dropping_guests(self) -> Guests:
        """Of which each connection drops when a command has been run: nobody knows whether it was done."""
        return HookedGuests(self._guests(self.computer), before=_nothing, after=_drop)

    def hooked_guests(self, hook: Hook) -> Guests:
        """In which `hook` is called before and after each command."""
        return HookedGuests(self._guests(self.computer), before=hook, after=hook)

    def failing_guests(self) -> Guests:
        """In which no command succeeds."""
        return FailingGuests(self._guests(self.computer))

    def reconnect(self, guest: Guest[Any]) -> None:
        """Asks the guest for an answer on a new connection."""
        self.machine.connections.forget(self.computer)
        patience = Patience(5)
        guest.task.guests.channel(self.computer, patience=patience).run(["true"], patience=patience)

    def _guests(self, computer: Computer) -> Guests:
        return self.machine.make(computer, waiting=True).task.guests


def _nothing(_: Sequence[str]) -> None:
    """Lets it pass."""


def _drop(argv: Sequence[str]) -> None:
    raise ConnectionDropped(f"the kit dropped the connection after {argv[0]}")
