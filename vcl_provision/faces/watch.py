"""Following a request live: what the database says of it is drawn as it comes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vcl_provision.faces.picture import Picture, headline
from vcl_provision.faces.story import Story, read_story
from vcl_provision.model.duration import spoken
from vcl_provision.store.database import Listener

CHANNEL = "vcl_request"
LOOKS_AGAIN = 5.0
"""Seconds after which it looks by itself: a notification is a hint, and may be missed."""
LAST_STEP = 0.15
"""Seconds that steps may come after the state that they led to: the daemon writes its diary behind its work."""


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
        return _follow(listener, story, _Printed(console).update, until)
    picture = Picture(story)
    with Live(picture, console=console, refresh_per_second=10) as live:

        def draw(story: Story) -> None:
            picture.story = story
            live.refresh()

        return _follow(listener, story, draw, until)


def wait(listener: Listener, request_id: int, *, until: Callable[[Story], bool]) -> Story:
    """The same without a picture."""
    return _follow(listener, read_story(listener.connection, request_id), lambda _: None, until)


def to_its_end(story: Story) -> bool:
    """For `until`: there is nothing to wait for but the end."""
    return story.over


def _follow(
    listener: Listener, story: Story, show: Callable[[Story], None], until: Callable[[Story], bool]
) -> Story:
    while True:
        show(story)
        ended = story.over or until(story)
        if ended:
            time.sleep(LAST_STEP)
        else:
            _wait_for_news(listener, story.status.id)
        story = read_story(listener.connection, story.status.id, seen=story.seen)
        if ended:
            show(story)
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


class _Printed:
    """Prints what has ended since the last look, once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: list[str] = []

    def update(self, story: Story) -> None:
        ended = [line for machine in story.machines for line in story.lines_of(machine) if not line.running]
        said = [f"  {spoken(line.seconds) if line.seconds else '':>8}  {line.said}" for line in ended]
        said += [f"  {'':>8}  {machine.waiting_because}" for machine in story.machines if story.waits(machine)]
        for line in [headline(story).plain, *said]:
            if line not in self._said:
                self._said.append(line)
                self._console.print(Text(line), soft_wrap=True)
