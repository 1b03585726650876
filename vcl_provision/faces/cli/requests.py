"""`vcl reserve`, `status`, `show`, `explain`, `connect`, `end`, `extend`, `log`: one's reservations."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

import typer

from vcl_provision.faces import login, watch
from vcl_provision.faces.cli import pages
from vcl_provision.faces.cli.options import AddressOption, JsonOption, NumberArgument, here_and_now, place_of
from vcl_provision.faces.errors import Exit, Failed
from vcl_provision.faces.explaining import explain
from vcl_provision.faces.journal import follow
from vcl_provision.faces.lab.people import usual_user
from vcl_provision.faces.moments import moment
from vcl_provision.faces.output import err, out, print_json, show, show_page
from vcl_provision.faces.output import moment as in_words
from vcl_provision.faces.place import Place
from vcl_provision.faces.story import Story, read_story
from vcl_provision.store import builds, requests
from vcl_provision.store.requests import Wanted
from vcl_provision.workflow.lifecycle import FINAL

PANEL = "Reservations"
LONGEST = 100_000
"""Hours, eleven years: more is a slip of the hand."""

app = typer.Typer()

UserOption = Annotated[str | None, typer.Option("--user", metavar="NAME", help="For whom; you, if you leave it out.")]
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="Name of the image: vcl images shows them.")]
HoursOption = Annotated[float | None, typer.Option("--hours", metavar="H", min=0.01, help="How long from the start.")]
MoreOption = Annotated[float | None, typer.Option("--hours", metavar="H", help="How much longer; below 0: shorter.")]
UntilOption = Annotated[str, typer.Option("--until", metavar="WHEN", help='When it ends: 18:30, "tomorrow 9:00", ISO.')]
StartOption = Annotated[str, typer.Option("--start", metavar="WHEN", help="When it starts; now, if you leave it out.")]
ComputerOption = Annotated[str, typer.Option("--computer", metavar="NAME", help="This computer and no other.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Refuse at once if no computer is free.")]
BuildOption = Annotated[
    bool, typer.Option("--build", help="If there is no such image, have it built from the profile of its name first.")
]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Stay and watch until the machine is ready.")]


@app.command(rich_help_panel=PANEL, epilog="Example: vcl reserve debian12 --user alice --hours 2 --watch")
def reserve(
    ctx: typer.Context,
    image: ImageArgument,
    user: UserOption = None,
    hours: HoursOption = None,
    until: UntilOption = "",
    start: StartOption = "",
    computer: ComputerOption = "",
    no_wait: NoWaitOption = False,
    build: BuildOption = False,
    machines: Annotated[int, typer.Option("--machines", min=1, max=100, help="How many machines: a cluster.")] = 1,
    watched: WatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Reserve a machine with an image on it."""
    if hours is not None and until:
        raise Failed("--hours and --until both say how long", "give one of them", status=Exit.USAGE)
    begins, ends = (moment(text, here_and_now()) if text else None for text in (start, until))
    lasting = None if hours is None else _length(hours)
    whose = usual_user() if user is None else user
    if build:
        _have_image(place_of(ctx), image, whose)
    wanted = Wanted(
        user=whose,
        image=image,
        computer=computer or None,
        start=begins,
        end=ends,
        lasting=lasting,
        wait=not no_wait,
        machines=machines,
    )
    with place_of(ctx).listener([watch.CHANNEL]) as listener:
        number = requests.add_request(listener.connection, wanted)
        with _goes_on(number):
            if watched:
                watch.watch(listener, number, err if as_json else out, until=lambda story: story.status.state != "new")
            elif no_wait:
                watch.wait(listener, number, until=lambda story: story.status.computer is not None)
        _reserved(read_story(listener.connection, number), as_json=as_json)


def _length(hours: float) -> timedelta:
    if not abs(hours) <= LONGEST:  # what is no number is not less than anything either
        raise Failed(f"--hours {hours:g} is no length of time", f"at most {LONGEST} hours", status=Exit.USAGE)
    return timedelta(hours=hours)


@contextmanager
def _goes_on(number: int) -> Generator[None]:
    """Who stops looking is told that it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        said = f"Request {number} goes on. Watch it: vcl show {number} --watch; give it back: vcl end {number}"
        err.print(f"\n{said}", soft_wrap=True)
        raise


def _have_image(place: Place, image: str, user: str) -> None:
    from vcl_provision.faces.images.ordering import have_image  # noqa: PLC0415 - would cost every other command 0.2 s

    with place.listener([builds.CHANNEL]) as listener:
        have_image(listener, image, asked_by=user)


def _reserved(story: Story, *, as_json: bool) -> None:
    if as_json:
        print_json(story.status)
    if story.status.state == "failed":
        raise Failed(story.status.fault or "it failed", story.status.hint or "", status=Exit.RESERVATION_FAILED)
    if not as_json:
        out.print(pages.what_next(story))


@app.command(rich_help_panel=PANEL, epilog="Example: vcl status --all --json")
def status(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Those that are over too: the last 50.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List reservations and how they go."""
    with place_of(ctx).session() as conn:
        rows = requests.latest(conn, 50) if everything else requests.live(conn)
    show(rows, pages.STATUS, as_json=as_json, empty="Nothing is reserved. vcl reserve IMAGE reserves a machine.")


@app.command(name="show", rich_help_panel=PANEL, epilog="Example: vcl show 17 --watch")
def show_one(
    ctx: typer.Context,
    number: NumberArgument,
    watched: Annotated[bool, typer.Option("--watch", "-w", help="Stay and watch until it is over.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one reservation: its times, its machine, its steps."""
    with place_of(ctx).listener([watch.CHANNEL]) as listener:
        if watched:
            with _goes_on(number):
                watch.watch(listener, number, out, until=watch.to_its_end)
        story = read_story(listener.connection, number)
    show_page(pages.as_data(story) if as_json else pages.story(story), as_json=as_json)


@app.command(name="explain", rich_help_panel=PANEL, epilog="Example: vcl explain 17")
def explain_one(ctx: typer.Context, number: NumberArgument, as_json: JsonOption = False) -> None:
    """Say why: what happened, happens, is wrong, can follow, is to be done."""
    with place_of(ctx).session() as conn:
        story = read_story(conn, number)
    told = explain(story)
    show_page(told if as_json else pages.explanation(story, told), as_json=as_json)


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: vcl connect 17;  vcl connect 17 -- uname -a;  vcl connect 17 --print",
    context_settings={"ignore_unknown_options": True},
)
def connect(
    ctx: typer.Context,
    number: NumberArgument,
    command: Annotated[list[str] | None, typer.Argument(help="What to run there instead of a shell.")] = None,
    address: AddressOption = "",
    only_print: Annotated[bool, typer.Option("--print", help="Say the ssh command instead of running it.")] = False,
) -> None:
    """Log in to a reserved machine.

    Says where you are, waits until the machine is open for you, and becomes ssh.
    """
    place = place_of(ctx)
    with place.listener([watch.CHANNEL]) as listener, _goes_on(number):
        way = login.let_in(listener, number, place.lab, err, come_from=address)
    if place.lab and place.lab.simulated:
        out.print(f"The machine is open for {way.user}. It is simulated: there is nothing to log in to.")
    elif only_print:
        login.print_command(way, command or [])
    else:
        login.become_ssh(way, command or [], err)


@app.command(rich_help_panel=PANEL, epilog="Example: vcl end 17 --watch")
def end(ctx: typer.Context, number: NumberArgument, watched: WatchOption = False) -> None:
    """Give a reservation back."""
    with place_of(ctx).listener([watch.CHANNEL]) as listener:
        seen = read_story(listener.connection, number).taken
        state = requests.end(listener.connection, number)
        if watched:
            with _goes_on(number):
                state = watch.watch(listener, number, out, until=watch.to_its_end, seen=seen).status.state
    now = f": it is {state}" if state in FINAL else "; its machine is being taken back"
    out.print(f"Request {number} is given back{now}.", soft_wrap=True)


@app.command(rich_help_panel=PANEL, epilog="Example: vcl extend 17 --hours 1")
def extend(ctx: typer.Context, number: NumberArgument, hours: MoreOption = None, until: UntilOption = "") -> None:
    """Let a reservation last longer (or shorter)."""
    if (hours is None) == (not until):
        raise Failed("say how long", "--hours H from its present end on, or --until WHEN", status=Exit.USAGE)
    by = None if hours is None else _length(hours)
    with place_of(ctx).session() as conn:
        read_story(conn, number)
        ends = requests.extend(conn, number, by=by, until=moment(until, here_and_now()) if until else None)
    out.print(f"Request {number} lasts until {in_words(ends)}.")


@app.command(name="log", rich_help_panel=PANEL, epilog="Examples: vcl log 17;  vcl log --follow")
def journal(
    ctx: typer.Context,
    number: Annotated[int | None, typer.Argument(metavar="N", help="Of this one only.", show_default=False)] = None,
    followed: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and print what comes.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Print the journal: what was done, when, by which command."""
    with place_of(ctx).listener([watch.CHANNEL]) as listener:
        follow(listener, number, out, lines=lines, on=followed, as_json=as_json)
