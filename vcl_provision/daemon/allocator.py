"""Asks who waits for a computer, has it decided, writes it down. One node at a time; the constraint is the truth."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from vcl_provision.model.faults import Fault
from vcl_provision.model.states import FaultKind
from vcl_provision.store import allocation as questions
from vcl_provision.store.database import Connection, Database
from vcl_provision.workflow.allocation import Assigned, Candidate, Decision, RefusedOne, Waits, Wanted, allocate

BATCH = 500
"""Reservations decided in one transaction: a morning's rush is not one long lock."""

IN_VAIN = Fault(
    kind=FaultKind.REFUSED,
    said="no computer became free in the reserved time",
    hint="ask for another time, or for an image that more computers can run",
)


@dataclass(frozen=True, kw_only=True)
class Allocator:
    database: Database

    def allocate(self) -> None:
        """Gives computers to whom it can, and tells the others why they wait."""
        with self.database.session() as conn:
            queue = questions.in_queue(conn, BATCH)
            if not queue:
                return
            try:
                with conn.transaction():
                    if questions.may_decide(conn):
                        _decide(conn, queue)
            except questions.Taken as taken:  # one of them: the others need not wait for the next round
                for pair in taken.pairs:
                    with contextlib.suppress(questions.Taken):
                        questions.assign(conn, [pair])

    def give_up_waiting(self) -> None:
        """Fails those whose time went by without a computer."""
        with self.database.session() as conn:
            for request_id in questions.waited_in_vain(conn):
                questions.refuse(conn, request_id, IN_VAIN)


def _decide(conn: Connection, queue: Sequence[questions.Waiting]) -> None:
    """Among the computers that are free all the time, if they are enough: a queue of one then looks at one computer."""
    wanted = [_wanted(waiting) for waiting in queue]
    revisions = sorted({waiting.revision_id for waiting in queue})
    begin, until = min(waiting.begin for waiting in queue), max(waiting.until for waiting in queue)
    few = questions.shortlist(conn, revisions, begin, until, each=len(queue))
    decisions = allocate(wanted, [_candidate(computer) for computer in few])
    if not all(isinstance(decision, Assigned) for decision in decisions):
        every = questions.standing(conn, revisions, begin, until)
        decisions = allocate(wanted, [_candidate(computer) for computer in every])
    _write(conn, queue, decisions)


def _write(conn: Connection, queue: Sequence[questions.Waiting], decisions: Sequence[Decision]) -> None:
    pairs = [(d.reservation_id, d.computer_id) for d in decisions if isinstance(d, Assigned)]
    if pairs:
        questions.assign(conn, pairs)
    waits = [(d.reservation_id, d.because) for d in decisions if isinstance(d, Waits)]
    if waits:
        questions.say_why(conn, waits)
    request_of = {w.reservation_id: w.request_id for w in queue}
    for refused in (d for d in decisions if isinstance(d, RefusedOne)):
        fault = Fault(kind=FaultKind.REFUSED, said=refused.said, hint=refused.hint)
        questions.refuse(conn, request_of[refused.reservation_id], fault)


def _wanted(waiting: questions.Waiting) -> Wanted:
    return Wanted(
        reservation_id=waiting.reservation_id,
        request_id=waiting.request_id,
        revision_id=waiting.revision_id,
        span=(waiting.begin, waiting.until),
        waits=waiting.waits,
        soon=waiting.soon,
        refused_by=dict(zip(waiting.refused_by, waiting.refused_names, strict=True)),
    )


def _candidate(computer: questions.Standing) -> Candidate:
    return Candidate(
        computer_id=computer.computer_id,
        runs=frozenset(computer.runs),
        holds=computer.holds,
        free_now=computer.free_now,
        host_id=computer.host_id,
        no_room=computer.no_room or "",
        no_new_master=computer.no_new_master,
        busy=tuple(zip(computer.busy_from, computer.busy_until, strict=True)),
    )
