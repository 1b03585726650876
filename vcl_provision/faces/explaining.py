"""What happened to a request, what happens now, why it waits or failed, what can follow, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcl_provision.faces.story import Story
from vcl_provision.model.duration import spoken
from vcl_provision.model.states import Event, RequestState
from vcl_provision.workflow.lifecycle import way_on

S = RequestState

WHAT_TO_DO: dict[RequestState, str] = {
    S.NEW: "wait, or give it back: vcl end {id}",
    S.RELOAD: "wait, or give it up: vcl end {id}",
    S.RESERVED: "log in: vcl connect {id}",
    S.INUSE: "stay longer: vcl extend {id} --hours 1; give it back: vcl end {id}",
    S.TIMEOUT: "nothing: the machine is being taken back; reserve anew if you need one",
    S.DELETED: "nothing: the machine is being taken back",
    S.RECLAIM: "nothing: the machine is being taken back",
    S.COMPLETE: "nothing: it is over; reserve anew if you need a machine",
    S.FAILED: "see the journal: vcl log {id}; then reserve anew",
}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Sentences under headings; `follows` are (event, next state, sentence)."""

    happened: Sequence[str]
    happens: Sequence[str]
    trouble: Sequence[str]
    follows: Sequence[tuple[str, str, str]]
    to_do: str


def explain(story: Story) -> Explanation:
    """From the story alone."""
    state = RequestState(story.status.state)
    follows = [] if story.over else [(event.value, target.value, said) for event, target, said in way_on(state)]
    return Explanation(
        happened=_happened(story),
        happens=_happens(story),
        trouble=_trouble(story),
        follows=[row for row in follows if row[0] != Event.GAVE_UP],
        to_do=_to_do(story, state),
    )


def _happened(story: Story) -> list[str]:
    ended = [line for machine in story.machines for line in story.lines_of(machine) if not line.running]
    said = [f"{line.said} ({spoken(line.seconds)})" if line.seconds else line.said for line in ended]
    return [story.status.moved, *said] if story.status.moved else said


def _happens(story: Story) -> list[str]:
    if story.over:
        return []
    since = spoken((story.now - story.status.since).total_seconds())
    said = [f"it has been {story.status.state} for {since}"]
    for machine in story.machines:
        running = [line for line in story.lines_of(machine) if line.running]
        if running and machine.worked_on_by:
            said.append(f"{machine.worked_on_by} is at work: {running[-1].said}, for {spoken(running[-1].seconds)} now")
        elif machine.waiting_because:
            said.append(machine.waiting_because)
        if machine.due_at and not machine.worked_on_by:
            said.append(_when_due((machine.due_at - story.now).total_seconds()))
    return said


def _when_due(seconds: float) -> str:
    if seconds < -5:
        return f"vcld should have looked at it {spoken(-seconds)} ago: does one run? (vcl daemon run, vcl up)"
    if seconds < 1:
        return "vcld looks at it now"
    return f"vcld looks at it again in {spoken(seconds)}, or when something happens"


def _trouble(story: Story) -> list[str]:
    said = [story.status.fault] if story.status.fault else []
    tries = max((machine.attempts for machine in story.machines), default=0)
    return [*said, f"tried {tries} times in this state"] if tries and not story.over else said


def _to_do(story: Story, state: RequestState) -> str:
    if story.status.hint:
        return story.status.hint
    if state is S.RESERVED and story.granted and story.status.connect:
        return f"log in: vcl connect {story.status.id} (or {story.status.connect})"
    return WHAT_TO_DO[state].format(id=story.status.id)
