"""The way into a simulated machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

from vcl_provision.drivers import CommandFailed, ConnectionDropped, Patience, Ran, Transient, WrongHostKey

from .calls import enter
from .faults import Twist
from .machines import Machine, Slot, machine_in
from .options import Options
from .verbs import QUESTIONS, VERBS, Inside
from .world import Change, World


def connect(world: World, options: Options, patience: Patience, slot: Slot, *, host_key: str) -> SimChannel:
    """The way in. Raises Transient while the guest does not answer, WrongHostKey if it is another than was loaded."""
    enter(world, options, patience, "guest.connect", host=slot.host, computer=slot.name)
    machine = machine_in(world, slot)
    if machine is None or not machine.answers(world.clock()):
        raise Transient(f"{slot.name} does not answer yet")
    if host_key and machine.host_key != host_key:
        raise WrongHostKey(f"{slot.name} answers with another host key than it was given", "load it again")
    return SimChannel(world, options, slot, machine.instance)


class SimChannel:
    """A connection to one load of a machine: it breaks when the machine is switched off, removed or loaded anew.

    Commands are `[verb]` with a JSON object on standard input and one on standard output.
    """

    def __init__(self, world: World, options: Options, slot: Slot, instance: str) -> None:
        self._world = world
        self._options = options
        self._slot = slot
        self._instance = instance

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
        verb = argv[0]
        twist = enter(
            self._world, self._options, patience, f"guest.{verb}", host=self._slot.host, computer=self._slot.name
        )
        ran = self._answer(argv, stdin, nothing_done=twist is Twist.LIE)
        if twist is Twist.HALF:
            raise ConnectionDropped(f"the connection to {self._slot.name} dropped during {name or verb}")
        if ran.status not in accept:
            raise CommandFailed(f"{name or verb} failed in {self._slot.name}: {ran.stderr}", ran=ran)
        return ran

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        enter(self._world, self._options, patience, "guest.put", host=self._slot.host, computer=self._slot.name)
        with self._world.change() as change:
            self._alive(change)
            change.do("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", self._instance, path, content, mode)

    def close(self) -> None:
        """Nothing is held open."""

    def _answer(self, argv: Sequence[str], stdin: bytes, *, nothing_done: bool) -> Ran:
        verb = VERBS.get(argv[0])
        if verb is None:
            return Ran(argv=argv, status=127, stderr=f"{argv[0]}: command not found")
        asked: dict[str, object] = json.loads(stdin) if stdin else {}
        if nothing_done:
            return Ran(argv=argv, status=0, stdout="{}")
        with self._world.look() if argv[0] in QUESTIONS else self._world.change() as change:
            self._alive(change)
            said = verb(
                Inside(
                    change=change,
                    options=self._options,
                    slot=self._slot,
                    instance=self._instance,
                    random=self._world.random,
                ),
                asked,
            )
        return Ran(argv=argv, status=0, stdout=json.dumps(said or {}))

    def _alive(self, change: Change) -> Machine:
        machine = machine_in(change, self._slot)
        if machine is None or machine.instance != self._instance or not machine.answers(change.now):
            raise ConnectionDropped(f"the connection to {self._slot.name} is gone")
        return machine
