"""One claim, start to finish: gather, let the handler decide, write down what came of it; and on, while it is due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

import structlog
from structlog.contextvars import bound_contextvars

from vcl_provision.channels.patience import Patience
from vcl_provision.daemon.breaker import Breakers
from vcl_provision.daemon.disk_watch import DiskWatch
from vcl_provision.daemon.passwords import with_way_in
from vcl_provision.daemon.record import WorkRecord
from vcl_provision.daemon.room import ClaimedRoom
from vcl_provision.daemon.runs import Run
from vcl_provision.daemon.scribe import Scribe
from vcl_provision.daemon.steady import SteadyDatabase
from vcl_provision.daemon.toolbox import Ports, Toolbox, Unusable
from vcl_provision.daemon.undo import ModuleOf
from vcl_provision.drivers.driver import Driver
from vcl_provision.drivers.guest import Guest
from vcl_provision.drivers.provisioner import Provisioner
from vcl_provision.model.faults import BrokenModule, Cancelled, Fault, HostUnreachable, LeaseLost, ProvisionError
from vcl_provision.model.lab import VmHost
from vcl_provision.model.reservation import Claim, Timings
from vcl_provision.model.states import Event, RequestState
from vcl_provision.model.steps import SENTENCES, Step
from vcl_provision.store import moving, outcomes
from vcl_provision.store.database import Database, DatabaseAway
from vcl_provision.store.journal import Line
from vcl_provision.store.rules import Blame, Rules
from vcl_provision.store.work import Gathered, gather
from vcl_provision.workflow import lifecycle
from vcl_provision.workflow.outcome import NOTHING, Again, Done, Elsewhere, GaveUp, Noted, Outcome
from vcl_provision.workflow.routes import ROUTES, Route
from vcl_provision.workflow.verdict import verdict
from vcl_provision.workflow.work import Work

log = structlog.get_logger(__name__)

FRESH = timedelta(seconds=2)
"""How long image, user, host and timings, once asked, are taken as they are: some states are passed in milliseconds."""

RULES = Rules(
    advance=lifecycle.advance,
    combined=lifecycle.combined,
    is_enough=lifecycle.is_enough,
    computer_state=lifecycle.COMPUTER_STATE.__getitem__,
    ending=lifecycle.ending,
)


@dataclass(kw_only=True)
class Conductor:
    """Runs in a worker's thread; holds nothing of its own between two claims."""

    database: Database
    scribe: Scribe
    toolbox: Toolbox
    breakers: Breakers
    disk_watch: DiskWatch
    timings: Timings
    """VCL's timings where neither the lab nor the affiliation has its own."""
    budgets: Mapping[RequestState, float]
    """Seconds that one turn may take in each state."""
    management_keys: tuple[str, ...]
    parameters: Mapping[str, str]
    """What every machine is told at its first boot besides."""

    def conduct(self, run: Run) -> None:
        """Works on the claim until it waits, ends, is lost, or the daemon stops."""
        claim: Claim | None = run.claim
        with bound_contextvars(request=run.claim.request_id, reservation=run.claim.reservation_id):
            while claim is not None:
                run.claim = claim
                claim = self._turn(run)

    def _turn(self, run: Run) -> Claim | None:
        """One handler's turn. Returns the claim if it is kept for the next one."""
        try:
            gathered = self._gather(run)
            return None if gathered is None else self._look_at(run, gathered)
        except LeaseLost:
            run.lose()
            return self._cancelled(run)
        except Cancelled:
            return self._cancelled(run)

    def _gather(self, run: Run) -> Gathered | None:
        """What the turn needs to know: asked, unless the last one's outcome told it and that was just now."""
        known, run.known = run.known, None
        if known is not None and known.now - known.asked_at < FRESH:
            return known
        run.begin_turn()
        return self._steady(run).ask(lambda conn: gather(conn, run.claim, self.timings))

    def _look_at(self, run: Run, gathered: Gathered) -> Claim | None:
        run.claim = replace(run.claim, state=gathered.request.state)
        route = ROUTES.get(run.claim.state)
        return self._settle(run) if route is None else self._take(run, route, gathered)

    def _settle(self, run: Run) -> None:
        """Nothing is to be done in this state: it was reached while the claim was on its way."""
        self._steady(run).ask(lambda conn: outcomes.settle(conn, run.claim))

    def _take(self, run: Run, route: Route, gathered: Gathered) -> Claim | None:
        if route.within_time:
            run.stop.end_in((gathered.request.end_time - gathered.now).total_seconds())
        patience = Patience(self.budgets[run.claim.state], stop=run.stop)
        try:
            outcome = route.handle(self._work(run, patience, gathered))
        except Cancelled:
            raise
        except DatabaseAway as away:
            log.warning("turn.without_database", state=run.claim.state, because=str(away))
            return run.claim  # the next turn waits for it, asks the world, and goes on
        except Exception as error:  # noqa: BLE001 - a module may raise anything; what becomes of it is the verdict's
            outcome = self._judge(run, route, gathered, error)
        else:
            self._host_answered(run)
        if isinstance(outcome, Elsewhere):
            return self._leave(run, outcome.fault, gathered)
        return self._write(run, outcome, gathered)

    def _cancelled(self, run: Run) -> Claim | None:
        """The request changed or its time is up, so the next turn looks at it anew; or the daemon stops."""
        if run.lost:
            log.warning("lease.lost", state=run.claim.state)
            return None
        if run.closing:
            self._hand_back(run)
            return None
        return run.claim

    def _hand_back(self, run: Run) -> None:
        """Another node goes on with it; if the database is away just now, when the lease ends."""
        try:
            self._write(run, Again(after=0.0, because="its management node stops"))
        except Cancelled:
            log.warning("claim.left", state=run.claim.state)

    def _judge(self, run: Run, route: Route, gathered: Gathered, error: Exception) -> Outcome:
        expected = isinstance(error, ProvisionError)
        log.warning("turn.failed", state=run.claim.state, error=str(error), exc_info=None if expected else error)
        if isinstance(error, HostUnreachable) and run.claim.host_id is not None:
            self.breakers.was_away(run.claim.host_id)
        else:
            self._host_answered(run)
        return verdict(error, attempts=gathered.reservation.attempts, gives_up=route.gives_up)

    def _host_answered(self, run: Run) -> None:
        if run.claim.host_id is not None:
            self.breakers.answered(run.claim.host_id)

    def _write(self, run: Run, outcome: Done | Again | GaveUp, gathered: Gathered | None = None) -> Claim | None:
        match outcome:
            case Done(event=event, noted=noted):
                return self._done(run, event, noted, None, gathered)
            case Again():
                claim = run.claim
                run.due_in = self._steady(run).ask(lambda conn: outcomes.again(conn, claim, outcome))
                return None
            case GaveUp(fault=fault, blame_computer=computer):
                return self._done(run, Event.GAVE_UP, NOTHING, Blame(fault=fault, computer=computer), gathered)

    def _done(
        self, run: Run, event: Event, noted: Noted, blame: Blame | None, gathered: Gathered | None
    ) -> Claim | None:
        """What stopped this turn is behind it: a change from here on stops the next one, which need not look anew."""
        run.begin_turn()
        claim, keep = run.claim, not run.closing
        kept = self._steady(run).ask(
            lambda conn: outcomes.done(
                conn, claim, event, noted=noted, rules=RULES, keep=keep, blame=blame, known=gathered
            )
        )
        run.known = kept and kept.known
        return kept and kept.claim

    def _leave(self, run: Run, fault: Fault, gathered: Gathered) -> Claim | None:
        """Its computer is free and another is looked for; if none would do, it has failed.

        The host is measured before, so that nothing more is sent there from now on.
        """
        claim, host = run.claim, gathered.computer.host
        log.warning("turn.without_room", state=claim.state, because=fault.said)
        if host is not None:
            self.disk_watch.look_at(host)
            if self._steady(run).ask(
                lambda conn: moving.leave(conn, claim, host_id=host.id, because=fault.said, rules=RULES)
            ):
                self.scribe.write(_moving(claim, gathered.computer.id, host))
                return None
        return self._write(run, GaveUp(fault=fault, blame_computer=False), gathered)

    def _steady(self, run: Run) -> SteadyDatabase:
        return SteadyDatabase(database=self.database, stop=run.stop)

    def _work(self, run: Run, patience: Patience, gathered: Gathered) -> Work:
        record = WorkRecord(
            database=self._steady(run),
            scribe=self.scribe,
            claim=run.claim,
            gathered=gathered,
            management_keys=self.management_keys,
            parameters=self.parameters,
        )
        ports = Ports(
            owner=f"vcl:{gathered.lab_id}:{gathered.computer.name}",
            computer=gathered.computer,
            patience=patience,
            progress=record,
            effects=record.effects_of,
            room=ClaimedRoom(database=record.database, claim=run.claim, progress=record),
        )
        provisioner, guest = self._driven_by(run, gathered, ports)
        record.module_of = self._modules(ports, gathered, provisioner, guest)
        return Work(
            request=gathered.request,
            reservation=gathered.reservation,
            computer=gathered.computer,
            revision=gathered.revision,
            user=with_way_in(record.database, run.claim, gathered),
            now=gathered.now,
            provisioner=provisioner,
            guest=guest,
            record=record,
        )

    def _driven_by(self, run: Run, gathered: Gathered, ports: Ports) -> tuple[Provisioner[Any], Guest[Any]]:
        """The modules of this work. A broken one fails what needs it, and does not keep what is over from ending."""
        try:
            provisioner = self.toolbox.provisioner(gathered.computer.provisioning_module, ports)
            return provisioner, self.toolbox.guest(gathered.revision.os_module, provisioner, ports)
        except BrokenModule as broken:
            if run.claim.state in lifecycle.LIVE or gathered.reservation.occupies:
                raise
            return cast("Provisioner[Any]", Unusable(broken)), cast("Guest[Any]", Unusable(broken))

    def _modules(self, ports: Ports, gathered: Gathered, provisioner: Provisioner[Any], guest: Guest[Any]) -> ModuleOf:
        """Who undoes an effect: the module that recorded it, which need not be the computer's present one."""
        made: dict[tuple[str, str], Driver[Any]] = {
            ("provisioning", gathered.computer.provisioning_module): provisioner,
            ("os", gathered.revision.os_module): guest,
        }

        def module_of(kind: str, name: str) -> Driver[Any]:
            if (kind, name) in made:
                return made[kind, name]
            if kind == "os":
                return self.toolbox.guest(name, provisioner, ports)
            return self.toolbox.provisioner(name, ports)

        return module_of


def _moving(claim: Claim, computer_id: int, host: VmHost) -> Line:
    return Line(
        kind="step",
        said=SENTENCES[Step.MOVING],
        request_id=claim.request_id,
        reservation_id=claim.reservation_id,
        computer_id=computer_id,
        step=Step.MOVING,
        info=f"{host.name} had no room",
    )
