"""Where a provisioning module is tried: makes it as a daemon would, looks at what it left, cleans up."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid4, uuid5

from vcl_provision.channels.guests import GuestConnections
from vcl_provision.channels.keys import KeyPair, management_key, new_host_key
from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.drivers.conformance.item import NotApplicable, insist
from vcl_provision.drivers.conformance.ports import (
    EagerGuests,
    EffectFile,
    FileLocks,
    ProcessKept,
    Steps,
    make_provisioner,
)
from vcl_provision.drivers.conformance.processes import ChildServer
from vcl_provision.drivers.conformance.subject import Subject
from vcl_provision.drivers.conformance.target import Against
from vcl_provision.drivers.provisioner import Found, Inventory, Provisioner
from vcl_provision.drivers.task import Guests, Task
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.faults import ProvisionError
from vcl_provision.model.lab import Computer, Revision, VmHost
from vcl_provision.model.options import read_table
from vcl_provision.model.states import Power

_LAB = str(uuid5(NAMESPACE_URL, "vcl module check"))
_OTHER_LAB = str(uuid5(NAMESPACE_URL, "vcl module check: somebody else"))


@dataclass(kw_only=True)
class Bench:
    """One module, one machine to try it on, and a folder of the kit's own.

    Without `waiting`, guests are taken to answer at once, so that machines need not boot to be made and removed.
    """

    subject: Subject
    against: Against
    folder: Path
    running: Computer | None = None
    """The computer that an item loaded, and that items after it may use."""

    tried: bool = False
    """Whether a load with its boot was tried."""
    at_first: Sequence[Found] = ()
    """What lay on the host before anything was tried."""

    def __post_init__(self) -> None:
        self.name = self.subject.name
        self.module = cast("type[Provisioner[Any]]", self.subject.module)
        self.kept = ProcessKept()
        self.children = ChildServer()
        options: type[object] = self.module.Options
        self.options = read_table(options, self.against.options, where=f"options of {self.name}")
        ssh = self.against.ssh
        self.key: KeyPair = management_key(Path(ssh.key) if ssh.key else self.folder / "management_key")
        self.connections = GuestConnections(key=self.key, user=ssh.user, port=ssh.port)

    def close(self) -> None:
        self.children.close()
        self.connections.close()
        self.kept.close()

    @cached_property
    def host(self) -> VmHost | None:
        return self.computers[0].host

    @cached_property
    def computers(self) -> Sequence[Computer]:
        return self.against.computers_for(self.name)

    @property
    def computer(self) -> Computer:
        return self.computers[0]

    @property
    def names(self) -> set[str]:
        return {computer.name for computer in self.computers}

    @property
    def owners(self) -> set[str]:
        """The owner tags that the kit uses."""
        return {owner_of(computer, foreign=foreign) for computer in self.computers for foreign in (False, True)}

    @property
    def revision(self) -> Revision:
        return self.against.revision

    def firstboot(self, computer: Computer) -> FirstBoot:
        """A new identity for one load."""
        key = new_host_key()
        return FirstBoot(
            instance=str(uuid4()),
            hostname=computer.name,
            host_key=key.public,
            host_key_private=key.private,
            management_keys=(self.key.public,),
        )

    def make(
        self,
        computer: Computer | None = None,
        *,
        waiting: bool = False,
        guests: Guests | None = None,
        foreign: bool = False,
        patience: Patience | None = None,
        effects: EffectFile | None = None,
        steps: Steps | None = None,
    ) -> Provisioner[Any]:
        """The module for one piece of work; `foreign`: of another lab, so that what it makes is not ours."""
        computer = computer or self.computer
        task = Task(
            owner=owner_of(computer, foreign=foreign),
            computer=computer,
            patience=patience or Patience(self.against.boot if waiting else self.against.call),
            effects=effects or self.effects(computer, foreign=foreign),
            progress=steps or Steps(),
            local=LocalChannel(),
            guests=guests or self.connections,
            kept=self.kept,
            locks=FileLocks(self.folder),
        )
        made = make_provisioner(self.module, self.options, task)
        if not waiting or guests:
            made.task = replace(task, guests=guests or EagerGuests())
        return made

    def effects(self, computer: Computer, *, foreign: bool = False) -> EffectFile:
        return EffectFile(self.folder / f"{computer.name}.{'foreign' if foreign else 'ours'}.effects")

    def load(self, computer: Computer | None = None, *, waiting: bool = False, foreign: bool = False) -> Computer:
        """Loads the image; returns the computer with the host key that it was given."""
        computer = computer or self.computer
        firstboot = self.firstboot(computer)
        loaded = replace(computer, host_key=firstboot.host_key)
        self.need_image()
        self.make(loaded, waiting=waiting, foreign=foreign).load(loaded, self.revision, firstboot)
        return loaded

    def need_image(self) -> None:
        """Fetches the image, if it is not on the host."""
        if not self.make().does_image_exist(self.revision, self.host):
            self.make(waiting=True).retrieve_image(self.revision, self.host)

    def undo(self, computer: Computer | None = None, *, foreign: bool = False) -> None:
        """Plays what was recorded backwards, as the daemon does."""
        computer = computer or self.computer
        self.effects(computer, foreign=foreign).play_backwards(self.make(computer, foreign=foreign))

    def lying(self, computer: Computer | None = None) -> list[Found]:
        """What lies in the computer's slot. Raises NotApplicable if the module lists nothing."""
        name = (computer or self.computer).name
        return [found for found in self.inventory() if found.name == name]

    def inventory(self) -> list[Found]:
        """All that the module lists on the host. Raises NotApplicable if it does not list."""
        made = self.make()
        if not isinstance(made, Inventory) or self.host is None:
            raise NotApplicable("the module inherits no Inventory, so nobody can see what it leaves behind")
        return list(made.inventory(self.host))

    @property
    def sees(self) -> bool:
        """Whether the module lists what is there."""
        return self.host is not None and Inventory in self.module.__mro__

    def insist_empty(self, after: str, computer: Computer | None = None) -> None:
        """Raises Broken if something lies in the slot; says nothing for a module that does not list."""
        if self.sees:
            left = [found.what for found in self.lying(computer)]
            insist(
                not left,
                f"after {after} there is still {', '.join(left)}",
                "record an undo before each thing that is made, and let it succeed when the thing is gone",
            )

    @contextmanager
    def clean(self) -> Generator[None]:
        """Empty slots before and after, whatever happens in between."""
        self.empty()
        try:
            yield
        finally:
            self.empty()

    def empty(self) -> None:
        """Removes what the kit had made in its slots, its own and what it made as somebody else."""
        self.running = None
        for computer in self.computers:
            for foreign in (False, True):
                with suppress(Exception):  # what it raises here, it raises in an item too, where it is told
                    self.make(computer, foreign=foreign).control_VM(computer, Power.REMOVE)
                with suppress(Exception):
                    self.undo(computer, foreign=foreign)
                self.effects(computer, foreign=foreign).forget()
            self.connections.forget(computer)

    def running_machine(self) -> Computer:
        """The machine that was loaded and answers; loaded now, if none was. Raises NotApplicable if that failed."""
        if self.running is None and not self.tried:
            self.tried = True
            self.running = self.load(waiting=True)
        if self.running is None:
            raise NotApplicable("there is no machine: its load failed")
        return self.running

    def capable(self, capability: type[Any], computer: Computer | None = None) -> Any:
        """The module as that capability. Raises NotApplicable."""
        if capability not in self.module.__mro__:
            raise NotApplicable(f"the module inherits no {capability.__name__}")
        return self.make(computer, waiting=True)


def owner_of(computer: Computer, *, foreign: bool = False) -> str:
    """The owner tag: of the kit's own lab, or of another one."""
    return f"vcl:{_OTHER_LAB if foreign else _LAB}:{computer.name}"


def outcome(call: Callable[[], object]) -> Exception | None:
    """What the call raised, if it did. Of what no module may raise, the caller hears at once."""
    try:
        call()
    except ProvisionError as error:
        return cast("Exception", error)
    return None
