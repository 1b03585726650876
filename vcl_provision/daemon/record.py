"""What one piece of work must have on disk before it goes on: the ports of handlers and modules to the store."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vcl_provision.channels.keys import new_host_key
from vcl_provision.daemon.scribe import Scribe
from vcl_provision.daemon.steady import SteadyDatabase
from vcl_provision.daemon.undo import ModuleOf, play_backwards
from vcl_provision.drivers.task import Effects
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.faults import Refused
from vcl_provision.model.lab import Computer
from vcl_provision.model.reservation import Claim
from vcl_provision.model.steps import SENTENCES, Step
from vcl_provision.store import computers, effects
from vcl_provision.store.journal import Line
from vcl_provision.store.work import Gathered


@dataclass(kw_only=True)
class WorkRecord:
    """workflow's `Record` and drivers' `Progress`, of one turn."""

    database: SteadyDatabase
    scribe: Scribe
    claim: Claim
    gathered: Gathered
    management_keys: tuple[str, ...]
    parameters: Mapping[str, str]
    module_of: ModuleOf = field(init=False)

    @property
    def _computer(self) -> Computer:
        return self.gathered.computer

    def say(self, step: Step, info: str = "") -> None:
        self._write("step", SENTENCES[step], step=step.value, info=info)

    def note(self, said: str) -> None:
        self._write("note", said)

    def occupy(self) -> Computer | None:
        if self.gathered.reservation.occupies:
            return self._computer
        return self.database.ask(lambda conn: computers.occupy(conn, self.claim, self._computer))

    def loading(self) -> tuple[Computer, FirstBoot]:
        key = new_host_key()
        self.database.ask(lambda conn: computers.loading(conn, self.claim, self._computer.id, key.public))
        firstboot = FirstBoot(
            instance=str(uuid.uuid4()),
            hostname=self._computer.name,
            host_key=key.public,
            host_key_private=key.private,
            management_keys=self.management_keys,
            parameters=self.parameters,
        )
        return replace(self._computer, host_key=key.public), firstboot

    def prepared(self) -> None:
        revision = self.gathered.revision.id
        self.database.ask(lambda conn: computers.prepared(conn, self.claim, self._computer.id, revision))

    def tainted(self) -> None:
        if self._computer.tainted:
            return
        self.database.ask(lambda conn: computers.tainted(conn, self.claim, self._computer.id))

    def undo(self, *, scope: str) -> None:
        outstanding = self.database.ask(
            lambda conn: effects.outstanding(
                conn, computer_id=self._computer.id, reservation_id=self.claim.reservation_id, scope=scope
            )
        )
        play_backwards(self.database, self.claim, outstanding, self.module_of)

    def effects_of(self, kind: str, module: str) -> Effects:
        """The port through which one module writes down its undo."""
        return ModuleEffects(work=self, kind=kind, module=module)

    def _write(self, kind: str, said: str, *, step: str = "", info: str = "") -> None:
        self.scribe.write(
            Line(
                kind=kind,
                said=said,
                request_id=self.claim.request_id,
                reservation_id=self.claim.reservation_id,
                computer_id=self._computer.id,
                step=step,
                info=info,
            )
        )


@dataclass(frozen=True, kw_only=True)
class ModuleEffects:
    """drivers' `Effects`, of one module in one turn: on disk when `record` returns."""

    work: WorkRecord
    kind: str
    module: str

    def record(self, action: str, *, scope: str, **arguments: object) -> None:
        if scope not in effects.SCOPES:
            raise Refused(f"{self.module} records an undo of unknown scope {scope!r}", f"use one of {effects.SCOPES}")
        self.work.database.ask(
            lambda conn: effects.record_effect(
                conn,
                claim=self.work.claim,
                computer_id=self.work.gathered.computer.id,
                kind=self.kind,
                module=self.module,
                scope=scope,
                action=action,
                arguments=arguments,
            )
        )
