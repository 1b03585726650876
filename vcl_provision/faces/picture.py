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
BAR_WIDTH = 24


class Picture:
    """Draws whatever its story is at the moment of drawing, so that seconds run between two looks at the database."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self._spinner = Spinner("dots", style="cyan")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield headline(self.story)
        yield from self.machines()

    def machines(self) -> Iterator[RenderableType]:
        for machine in self.story.machines:
            if len(self.story.machines) > 1:
                yield Text(f"  {machine.computer or 'no computer yet'}", style="bold")
            drawn = self.story.lines_of(machine)
            if drawn:
                yield self._steps(drawn)
            because = self._because(machine, drawn)
            if because:
                yield Text(f" … {because}", style="yellow")

    def _because(self, machine: Machine, drawn: Sequence[Line]) -> str:
        """Why nothing is seen to happen."""
        if self.story.over:
            return ""
        if self.story.waits(machine):
            return machine.waiting_because or ""
        return "" if drawn else "waiting for vcld to take it up"

    def _steps(self, drawn: Iterable[Line]) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=2, justify="right")
        table.add_column(min_width=STEP_WIDTH)
        table.add_column(justify="right", min_width=8)
        table.add_column()
        for line in drawn:
            table.add_row(*self._cells(line))
        return table

    def _cells(self, line: Line) -> tuple[RenderableType, RenderableType, RenderableType, RenderableType]:
        if not line.running:
            seconds = Text(spoken(line.seconds) if line.seconds else "", style="dim")
            return Text("✓", style="green"), Text(line.said), seconds, ""
        return self._spinner, Text(line.said, style="bold"), Text(spoken(line.seconds), style="cyan"), _bar(line)


def headline(story: Story) -> Text:
    """`request 17: debian12 for alice on vm1 · new`."""
    status = story.status
    where = f" on {status.computer}" if status.computer else ""
    said = Text.assemble(("request ", "dim"), (str(status.id), "bold"), f": {status.image} for {status.user}{where} ")
    return said.append("· ", style="dim").append_text(state(status.state))


def _bar(line: Line) -> RenderableType:
    if line.share is None or line.expected is None:
        return ""
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=line.share, width=BAR_WIDTH, complete_style="cyan")
    grid.add_row(bar, Text(f"{line.share:.0%} of about {spoken(line.expected)}", style="dim"))
    return grid
