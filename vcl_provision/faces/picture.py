"""A story as it is drawn: a headline, the steps, a bar for what can be measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from vcl_provision.faces.output import state
from vcl_provision.faces.progress import Line
from vcl_provision.faces.story import Story
from vcl_provision.model.duration import spoken
from vcl_provision.store.requests import Machine

STEP_WIDTH = 48
SHORT_STEP_WIDTH = 36
"""So wide are the sentences where there is little room: none of ours is longer."""
SECONDS_WIDTH = 10
BAR_WIDTH = 24
LEAST_BAR = 4
MARGIN = 2
"""Columns left free at the right: what a terminal echoes, as ^C, would break the picture's last line."""


class Picture:
    """Draws whatever its story is at the moment of drawing, so that seconds run between two looks at the database."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self._spinner = Spinner("dots", style="cyan")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield headline(self.story)
        yield from self.machines(options.max_width - MARGIN)

    def machines(self, width: int) -> Iterator[RenderableType]:
        """What is known of each machine, in so many columns."""
        for machine in self.story.machines:
            if len(self.story.machines) > 1:
                yield Text(f"  {machine.computer or 'no computer yet'}", style="bold")
            drawn = self.story.lines_of(machine)
            if drawn:
                yield self._steps(drawn, width)
            because = self._because(machine, drawn)
            if because:
                yield Text(f" … {because}", style="yellow")

    def _because(self, machine: Machine, drawn: Sequence[Line]) -> str:
        """Why nothing is seen to happen."""
        because = self.story.waits_because(machine)
        untouched = not drawn and not self.story.over and not self.story.waits(machine)
        return "waiting for vcld to take it up" if untouched else because

    def _steps(self, drawn: Iterable[Line], width: int) -> Table:
        steps = min(STEP_WIDTH, max(width - SECONDS_WIDTH - BAR_WIDTH - 12, min(SHORT_STEP_WIDTH, width - 15)))
        table = Table.grid(padding=(0, 1))
        table.add_column(width=2, justify="right")
        table.add_column(width=max(steps, LEAST_BAR))
        table.add_column(justify="right", width=SECONDS_WIDTH)
        table.add_column(no_wrap=True)
        for line in drawn:
            table.add_row(*self._cells(line, width - steps - SECONDS_WIDTH - 5))
        return table

    def _cells(self, line: Line, room: int) -> tuple[RenderableType, ...]:
        if not line.running:
            seconds = Text(spoken(line.seconds) if line.seconds else "", style="dim")
            mark = Text("○", style="yellow") if line.rests else Text("✓", style="green")
            return mark, Text(line.said), seconds, ""
        return self._spinner, Text(line.said, style="bold"), Text(spoken(line.seconds), style="cyan"), _bar(line, room)


def headline(story: Story) -> Text:
    """`request 17: debian12 for alice on vm1 · new`."""
    status = story.status
    where = f" on {status.computer}" if status.computer else ""
    said = Text.assemble(("request ", "dim"), (str(status.id), "bold"), f": {status.image} for {status.user}{where} ")
    return said.append("· ", style="dim").append_text(state(status.state))


def _bar(line: Line, room: int) -> RenderableType:
    """How much of it is over, in so many columns: a bar and words, or as much of that as there is room for."""
    if line.share is None or line.expected is None:
        return ""
    share = f"{line.share:.0%}"
    said = f"{share} of about {spoken(line.expected)}"
    bar = min(BAR_WIDTH, room - len(said) - 1)
    if bar < LEAST_BAR:
        return Text(next((text for text in (said, share) if len(text) <= room), ""), style="dim")
    grid = Table.grid(padding=(0, 1))
    drawn = ProgressBar(total=1.0, completed=line.share, width=bar, complete_style="cyan")
    grid.add_row(drawn, Text(said, style="dim"))
    return grid
