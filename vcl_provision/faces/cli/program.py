"""The command `vcl`, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcl_provision import __version__
from vcl_provision.faces.cli.given import Given
from vcl_provision.faces.cli.later import add
from vcl_provision.faces.cli.parts import parts
from vcl_provision.faces.output import err

HELP = """Reserve machines with an image on them, and run the lab that gives them.

To begin with, a lab of your own: vcl up (without a hypervisor: vcl up --sim), then

vcl reserve debian12 --hours 2 --watch, vcl connect 1, vcl explain 1, vcl end 1, vcl down.

vcl speaks to the database of --dsn or VCL_DSN, of --conf or VCL_CONF, of the lab that vcl up brought up, or of
/etc/vcl-provision/vcld.toml, whichever comes first.
"""

EPILOG = (
    "Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 no such thing, "
    "4 no lab or database to speak to, 5 the reservation failed, 70 a defect."
)

app = typer.Typer(
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vcl {__version__}")
        raise typer.Exit


@app.callback(help=HELP)
def before(
    ctx: typer.Context,
    dsn: Annotated[str, typer.Option("--dsn", metavar="DSN", help="The database: a libpq string or URL.")] = "",
    conf: Annotated[
        Path | None,
        typer.Option("--conf", metavar="FILE", help="Settings of vcld, which name the database.", show_default=False),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = Given(dsn=dsn, conf=conf)


for part in parts():
    add(app, part)


def main() -> None:
    """The entry point of `vcl`."""
    try:
        app()
    except (KeyboardInterrupt, Exception) as no:  # noqa: BLE001 - shown, or raised again
        from vcl_provision.faces.errors import ended  # noqa: PLC0415 - knows psycopg, which help need not load

        raise SystemExit(ended(no, err)) from None
