"""A piece of work made of values, with modules that answer as they are told and remember what they were asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, cast

from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.lab import Computer, Revision, User
from vcl_provision.model.reservation import Request, Reservation, Timings
from vcl_provision.model.secret import Secret
from vcl_provision.model.states import ComputerKind, ComputerState, NodeStatus, RequestState
from vcl_provision.model.steps import Step
from vcl_provision.workflow.work import Work

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HERE = ip_address("192.0.2.7")
KEY = FirstBoot(
    instance="i",
    hostname="vm1",
    host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEiIyPZKQbHRWmA0yNkFe5XTZOlJ4rAFLL0WcNyFOoPE",
    host_key_private=Secret("-----BEGIN OPENSSH PRIVATE KEY-----\n"),
)


@dataclass
class Asked:
    """What was asked of modules and record, in order; `answers` by the name of the call, exceptions raised."""

    calls: list[str] = field(default_factory=list[str])
    answers: dict[str, object] = field(default_factory=dict[str, object])
    arguments: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list[tuple[str, tuple[Any, ...]]])

    def __call__(self, name: str, *arguments: object) -> object:
        self.calls.append(name)
        self.arguments.append((name, arguments))
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class FakeModule:
    """Stands for provisioner and guest alike: any call is remembered by its name."""

    asked: Asked
    add_user_in: RequestState = RequestState.RESERVED
    first_look: float = 3.0

    def __getattr__(self, name: str) -> object:
        def ask(*arguments: object, **_named: object) -> object:
            return self.asked(name, *arguments)

        return ask


@dataclass
class FakeRecord:
    asked: Asked
    computer: Computer
    notes: list[str] = field(default_factory=list[str])

    def say(self, step: Step, info: str = "") -> None: ...

    def note(self, said: str) -> None:
        self.notes.append(said)

    def occupy(self) -> Computer | None:
        return None if self.asked("occupy") is False else self.computer

    def loading(self) -> tuple[Computer, FirstBoot]:
        self.asked("loading")
        return replace(self.computer, host_key=KEY.host_key), KEY

    def prepared(self) -> None:
        self.asked("prepared")

    def tainted(self) -> None:
        self.asked("tainted")

    def undo(self, *, scope: str) -> None:
        self.asked(f"undo {scope}")


COMPUTER = Computer(
    id=1,
    name="vm1",
    kind=ComputerKind.VIRTUALMACHINE,
    state=ComputerState.AVAILABLE,
    provisioning_module="sim",
    private_address=ip_address("10.0.0.5"),
)
LOADED = replace(COMPUTER, host_key=KEY.host_key, loaded_revision_id=1, prepared=True)
REVISION = Revision(id=1, image_id=1, image="debian12", revision=1, name="debian12-v1", os="debian", os_module="linux")


def a_work(
    asked: Asked,
    state: RequestState,
    *,
    computer: Computer = COMPUTER,
    request: dict[str, Any] | None = None,
    reservation: dict[str, Any] | None = None,
    revision: Revision = REVISION,
) -> Work:
    """Started ten minutes ago, ends in an hour, came into its state a minute ago; the rest as asked."""
    start, end = NOW - timedelta(minutes=10), NOW + timedelta(hours=1)
    asked_for: dict[str, Any] = {"start_time": start, "end_time": end, "timings": Timings()} | (request or {})
    held: dict[str, Any] = {"state_since": NOW - timedelta(minutes=1), "occupies": True} | (reservation or {})
    return Work(
        request=Request(id=7, state=state, last_state=RequestState.NEW, **asked_for),
        reservation=Reservation(id=8, request_id=7, parent=True, **held),
        computer=computer,
        revision=revision,
        user=User(id=1, name="alice", affiliation="Local"),
        now=NOW,
        provisioner=cast("Any", FakeModule(asked)),
        guest=cast("Any", FakeModule(asked)),
        record=FakeRecord(asked, computer),
    )


def status(which: NodeStatus) -> dict[str, object]:
    return {"node_status": which, "does_image_exist": True}
