"""`vcl module`, `vcl db`, `vcl daemon`: running a management node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.text import Text

from vcl_provision.daemon.settings import read_settings
from vcl_provision.drivers.loading import Listed, Modules
from vcl_provision.faces.cli.given import Given
from vcl_provision.faces.cli.options import JsonOption, place_of
from vcl_provision.faces.errors import Exit
from vcl_provision.faces.output import Columns, err, out, print_json, show, state
from vcl_provision.faces.sql_shell import become_psql
from vcl_provision.store import migrate as migrations

app = typer.Typer()
module = typer.Typer(help="Modules: what drives hypervisors and guests.", no_args_is_help=True)
db = typer.Typer(help="The database.", no_args_is_help=True)
daemon = typer.Typer(help="The management node.", no_args_is_help=True)
for group, name in ((module, "module"), (db, "db"), (daemon, "daemon")):
    app.add_typer(group, name=name, rich_help_panel="Running a management node")

def _about(row: Listed) -> Text:
    said = Text(row.error, style="red") if row.error else Text(row.summary)
    for more in (row.note, ", ".join(row.capabilities)):
        if more:
            said.append(f"\n{more}", style="dim")
    return said


MODULES: Columns[Listed] = {
    "kind": lambda row: row.kind,
    "module": lambda row: row.name,
    "state": lambda row: state(row.state),
    "about": _about,
}


@module.command("list")
def list_modules(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List modules, broken ones with their error."""
    settings = read_settings(cast(Given, ctx.obj).conf)
    modules = Modules(settings.modules.module_path, settings.modules.options)
    show(modules.listing(), MODULES, as_json=as_json, empty="There are no modules.")


@module.command("check", epilog="Example: vcl module check modules/provisioning/mine.py --against machine.toml")
def check_module(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The module: a file, or its folder.")],
    against: Annotated[
        Path | None, typer.Option("--against", metavar="CONF", help="Describes a machine to try it on.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="WORD", help="Items with this in the name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try a module against the contract: each call, twice, at once, killed in the middle; and say what to fix."""
    from vcl_provision.faces.module_check import check  # noqa: PLC0415 - would cost every other command a second

    report = check(file, against, only or (), err if as_json else out)
    if as_json:
        print_json(report)
    raise typer.Exit(Exit.DONE if report.ok else Exit.REFUSED)


@db.command("migrate")
def migrate(ctx: typer.Context) -> None:
    """Bring the database to this version's schema: install it, or apply what is missing. Safe to run twice."""
    place = place_of(ctx)
    with place.session() as conn:
        applied = migrations.migrate(conn)
    said = ", ".join(str(migration) for migration in applied)
    out.print(f"Applied to {place.said}: {said}." if applied else f"Nothing to do: {place.said} is up to date.")


@db.command(
    "psql",
    epilog="Examples: vcl db psql;  vcl db psql -- -c 'TABLE request_status'",
    context_settings={"ignore_unknown_options": True},
)
def psql(
    ctx: typer.Context,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGUMENT", help="For psql itself.")] = None,
) -> None:
    """Speak SQL to the database: becomes psql, with the database's own name and no password in sight."""
    become_psql(place_of(ctx).dsn, arguments or [])


@daemon.command("run")
def run(
    ctx: typer.Context,
    conf: Annotated[Path | None, typer.Option("--conf", metavar="FILE", help="Settings.", show_default=False)] = None,
) -> None:
    """Run vcld here, in the foreground; Ctrl-C drains and stops it."""
    from vcl_provision.faces.vcld import run_daemon  # noqa: PLC0415 - would cost every other command 0.2 s

    status = run_daemon(conf or cast(Given, ctx.obj).conf)
    raise typer.Exit(Exit(status) if status in set(Exit) else Exit.REFUSED)
