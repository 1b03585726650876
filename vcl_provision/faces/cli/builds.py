"""`vcl builds`: images that are built beside the reservations, in a queue of their own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, cast

import typer

from vcl_provision.faces.cli.given import Given
from vcl_provision.faces.cli.options import JsonOption, place_of
from vcl_provision.faces.errors import Exit, Failed
from vcl_provision.faces.images.following import follow
from vcl_provision.faces.output import Columns, ago, moment, out, show, state
from vcl_provision.store import builds
from vcl_provision.store.builds import Build

PANEL = "Images"

app = typer.Typer()
group = typer.Typer(help="Images that are being built: the queue.", invoke_without_command=True)
app.add_typer(group, name="builds", rich_help_panel=PANEL)

NumberArgument = Annotated[int, typer.Argument(metavar="N", help="Number of the build, as vcl builds list shows it.")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Stay until it is over, and print what it says.")]


def _took(build: Build) -> str:
    if build.began_at is None:
        return "-"
    return ago((build.ended_at or datetime.now(UTC)) - build.began_at)


BUILDS: Columns[Build] = {
    "N": lambda row: str(row.id),
    "state": lambda row: state(row.state),
    "asked by": lambda row: row.asked_by,
    "asked": lambda row: moment(row.asked_at),
    "took": _took,
    "what": lambda row: row.revision_name or row.said or row.key,
}


@group.callback()
def list_at_once(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Images that are being built: the queue. Alone it lists them."""
    if not ctx.invoked_subcommand:
        list_builds(ctx, as_json=as_json)


@group.command("list")
def list_builds(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List builds: those that wait and run, and the last that are over."""
    with place_of(ctx).session() as conn:
        rows = builds.latest(conn, 50)
    show(rows, BUILDS, as_json=as_json, empty="Nothing is being built. vcl build PROFILE --queue asks for an image.")


@group.command("log", epilog="Example: vcl builds log 3 --follow")
def log(
    ctx: typer.Context, number: NumberArgument, followed: FollowOption = False, as_json: JsonOption = False
) -> None:
    """Print what a build says, and how it ended."""
    with place_of(ctx).listener([builds.CHANNEL]) as listener:
        build = follow(listener, number, out, on=followed, as_json=as_json)
    if build.state == "failed":
        raise Failed(build.said or "it failed", build.hint or "", status=Exit.REFUSED)


@group.command("cancel")
def cancel(ctx: typer.Context, number: NumberArgument) -> None:
    """Cancel a build: one that waits at once, one that runs as soon as its builder hears of it."""
    with place_of(ctx).session() as conn:
        now = builds.cancel(conn, number)
    out.print(f"Build {number} is cancelled." if now == "cancelled" else f"Build {number} is told to stop.")


@group.command("run")
def run(ctx: typer.Context) -> None:
    """Build what is in the queue, one after another, until told to stop: the builder, a service beside vcld.

    SIGTERM: the build in hand goes back into the queue. Several builders, on several machines, share one queue.
    """
    from vcl_provision.faces.builder import run_builder  # noqa: PLC0415 - would cost every other command 0.2 s

    run_builder(place_of(ctx), cast(Given, ctx.obj).conf)
