"""Following a request live: what the database says of it is drawn as it comes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vcl_provision.faces.picture import Picture, headline
from vcl_provision.faces.progress import Line
from vcl_provision.faces.story import Story, read_story
from vcl_provision.model.duration import spoken
from vcl_provision.store.database import Listener

CHANNEL = "vcl_request"
LOOKS_AGAIN = 5.0
"""Seconds after which it looks by itself: a notification is a hint, and may be missed."""
LAST_STEP = 0.15
"""Seconds that steps may come after the state that they led to: the daemon writes its diary behind its work."""


class Show(Protocol):
    """Shows the story as it is; `ended` says that it is for the last time."""

    def __call__(self, story: Story, *, ended: bool) -> None: ...


def watch(
    listener: Listener,
    request_id: int,
    console: Console,
    *,
    until: Callable[[Story], bool],
    seen: datetime | None = None,
) -> Story:
    """Draws the request until the story is as wanted, or over; returns it. The listener hears `CHANNEL`.

    Steps that ended before `seen` are not drawn.

    On a terminal the picture lives; elsewhere each step is printed when it has ended.
    Raises NoSuchRequest, DatabaseAway.
    """
    story = read_story(listener.connection, request_id, seen=seen)
    if not console.is_terminal:
        return _follow(listener, story, Printed(console).update, until)
    picture = Picture(story)
    with Live(picture, console=console, refresh_per_second=10) as live:

        def draw(story: Story, *, ended: bool) -> None:
            del ended  # a picture shows what runs as running
            picture.story = story
            live.refresh()

        return _follow(listener, story, draw, until)


def wait(listener: Listener, request_id: int, *, until: Callable[[Story], bool]) -> Story:
    """The same without a picture."""
    return _follow(listener, read_story(listener.connection, request_id), _not_shown, until)


def _not_shown(story: Story, *, ended: bool) -> None:
    del story, ended


def to_its_end(story: Story) -> bool:
    """For `until`: there is nothing to wait for but the end."""
    return story.over


def _follow(listener: Listener, story: Story, show: Show, until: Callable[[Story], bool]) -> Story:
    while not (story.over or until(story)):
        show(story, ended=False)
        _wait_for_news(listener, story.status.id)
        story = read_story(listener.connection, story.status.id, seen=story.seen)
    time.sleep(LAST_STEP)
    story = read_story(listener.connection, story.status.id, seen=story.seen)
    show(story, ended=True)
    return story


def _wait_for_news(listener: Listener, request_id: int) -> None:
    """Until something is said of this request, or for a while."""
    ends = time.monotonic() + LOOKS_AGAIN
    while (left := ends - time.monotonic()) > 0:
        if any(_is_about(request_id, heard.payload) for heard in listener.heard(left)):
            return


def _is_about(request_id: int, payload: str) -> bool:
    try:
        return json.loads(payload)["id"] == request_id
    except (ValueError, KeyError, TypeError):
        return True  # not ours to judge: look


class Printed:
    """The same on paper: each step once and when it has ended, each state when it was entered, each reason to wait.

    The last step of a machine ends with what follows it, so it is printed when that has come, or nothing will: `ended`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: set[tuple[int, str, datetime]] = set()
        self._waits: dict[int, str] = {}

    def update(self, story: Story, *, ended: bool) -> None:
        news: list[tuple[int, str, datetime]] = []
        for machine in story.machines:
            lines = story.lines_of(machine)
            whose = f"{machine.computer}: " if len(story.machines) > 1 else ""
            news += [
                (machine.reservation_id, f"  {_seconds(line):>10}  {whose}{line.said}", line.until)
                for line in (lines if ended else lines[:-1])
                if not line.running
            ]
        news.append((0, headline(story).plain, story.status.since))
        for new in sorted(news, key=lambda new: new[2]):
            if new not in self._said:
                self._said.add(new)
                self._print(new[1])
        self._say_why(story)

    def _say_why(self, story: Story) -> None:
        for machine in story.machines:
            because = story.waits_because(machine)
            if because and because != self._waits.get(machine.reservation_id):
                self._waits[machine.reservation_id] = because
                self._print(f"  {'...':>10}  {because}")

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def _seconds(line: Line) -> str:
    return spoken(line.seconds) if line.seconds else ""
