"""Which computer is given to whom: first come, first served, a computer that already holds the image preferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

Span = tuple[float, float]
"""From, until, in seconds since the epoch; the end does not belong to it."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A reservation without a computer. `waits`: else its request is refused at once if none is free.

    `soon`: it is loaded so soon that a host without room will have none by then. `refused_by`: names of the hosts that
    had no room when it was to be loaded there, by id; it does not come back to them.
    """

    reservation_id: int
    request_id: int
    revision_id: int
    span: Span
    waits: bool = True
    soon: bool = True
    refused_by: Mapping[int, str] = field(default_factory=dict[int, str])


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A computer: which revisions it could run, what it holds (and nobody was in), when it is taken.

    `free_now`: nothing has to be taken back first. `no_room`: why nothing can be loaded on it now, empty if something
    can; `no_new_master`: only images that lie on its host already.
    """

    computer_id: int
    runs: frozenset[int]
    holds: int | None
    free_now: bool
    host_id: int | None = None
    busy: tuple[Span, ...] = ()
    no_room: str = ""
    no_new_master: bool = False


@dataclass(frozen=True, kw_only=True)
class Assigned:
    reservation_id: int
    computer_id: int


@dataclass(frozen=True, kw_only=True)
class Waits:
    reservation_id: int
    because: str


@dataclass(frozen=True, kw_only=True)
class RefusedOne:
    reservation_id: int
    said: str
    hint: str


Decision = Assigned | Waits | RefusedOne

_NAMED = 3
"""Full disks that a reason names: their hosts are all in `vcl hosts`."""

Taken = dict[int, list[Span]]
"""When each computer is reserved, in the database and by the decisions so far."""


def allocate(wanted: Sequence[Wanted], candidates: Sequence[Candidate]) -> list[Decision]:
    """One decision for each of `wanted`, which comes in the order in which it is served, each request's together.

    A request of several machines gets all of them or none, so that none stands idle while it waits for the others.
    Whoever waits keeps the computers that could be theirs: nobody who came later gets one of them for a time that
    overlaps, or a long request would wait for ever behind short ones. Who asks for more machines than there are keeps
    none, or everybody would wait for what cannot be.
    """
    taken: Taken = {c.computer_id: list(c.busy) for c in candidates}
    decisions: list[Decision] = []
    for _, group in groupby(wanted, key=lambda want: want.request_id):
        wants = list(group)
        given = _give(wants, candidates, taken)
        decisions += given or [_none_free(want, wants, candidates, taken) for want in wants]
    return decisions


def _give(wants: Sequence[Wanted], candidates: Sequence[Candidate], taken: Taken) -> list[Decision]:
    """A computer for each of a request's machines, which are then taken; or nothing for any of them."""
    given: list[Decision] = []
    mine: list[tuple[int, Span]] = []
    for want in wants:
        free = [c for c in candidates if _could(c, want) and not _overlaps(taken[c.computer_id], want.span)]
        if not free:
            for computer_id, span in mine:
                taken[computer_id].remove(span)
            return []
        chosen = min(free, key=lambda c: _preference(c, want))
        taken[chosen.computer_id].append(want.span)
        mine.append((chosen.computer_id, want.span))
        given.append(Assigned(reservation_id=want.reservation_id, computer_id=chosen.computer_id))
    return given


def _none_free(
    want: Wanted, wants: Sequence[Wanted], candidates: Sequence[Candidate], taken: Taken
) -> Waits | RefusedOne:
    fitting = [c for c in candidates if _could(c, want)]
    full = [c for c in candidates if _might(c, want) and c not in fitting]
    because = _elsewhere(want) + _because(len(fitting), len(wants), full)
    if not want.waits:
        hint = "ask for another time, or wait for one: wait_for_computer true, which is vcl reserve without --no-wait"
        return RefusedOne(reservation_id=want.reservation_id, said=because, hint=hint)
    for candidate in fitting if len(wants) <= len(fitting) else ():
        taken[candidate.computer_id].append(want.span)
    return Waits(reservation_id=want.reservation_id, because=because)


def _elsewhere(want: Wanted) -> str:
    """Begins the reason of one that left full hosts: with their names."""
    return f"{', '.join(want.refused_by.values())} had no room for it; elsewhere " if want.refused_by else ""


def _because(fitting: int, machines: int, full: Sequence[Candidate]) -> str:
    if not full:
        return _taken(fitting, machines)
    where = ", ".join(sorted({candidate.no_room for candidate in full})[:_NAMED])
    if fitting == 0:
        return f"no computer that can run the image has room for it: {where} (vcl hosts)"
    return f"{_taken(fitting, machines)}; {len(full)} more have no room for it: {where} (vcl hosts)"


def _taken(fitting: int, machines: int) -> str:
    if fitting == 0:
        return "no computer in service can run the image"
    if machines > fitting:
        return f"{machines} machines are asked for, and {fitting} in service can run the image"
    if machines > 1:
        return f"{machines} machines at once are not free among the {fitting} computers that can run the image"
    if fitting == 1:
        return "the one computer that can run the image is taken"
    return f"all {fitting} computers that can run the image are taken"


def _might(candidate: Candidate, want: Wanted) -> bool:
    """Whether it could be loaded there if there were room."""
    return want.revision_id in candidate.runs and candidate.host_id not in want.refused_by


def _could(candidate: Candidate, want: Wanted) -> bool:
    if not _might(candidate, want):
        return False
    return not (candidate.no_room and want.soon) or candidate.holds == want.revision_id


def _overlaps(busy: Sequence[Span], span: Span) -> bool:
    return any(begin < span[1] and span[0] < end for begin, end in busy)


def _preference(candidate: Candidate, want: Wanted) -> tuple[bool, bool, bool, bool, int]:
    """Least is best: free and loaded with the image, free on a host with room, holding nothing; then by number."""
    return (
        not candidate.free_now,
        candidate.holds != want.revision_id,
        bool(candidate.no_room) or candidate.no_new_master,
        candidate.holds is not None,
        candidate.computer_id,
    )
