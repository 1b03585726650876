"""The program `vcld`: the daemon of a management node, in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcl_provision import __version__
from vcl_provision.daemon import service
from vcl_provision.daemon.settings import read_settings
from vcl_provision.faces.errors import run_clearly
from vcl_provision.faces.logs import set_up_logs
from vcl_provision.faces.notify import SystemdNotifier
from vcl_provision.faces.output import err

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

ConfOption = Annotated[
    Path | None,
    typer.Option("--conf", metavar="FILE", envvar="VCL_CONF", help="Settings; else /etc/vcl-provision/vcld.toml."),
]


@app.command()
def vcld(
    conf: ConfOption = None,
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
) -> None:
    """The management node: takes reservations from the database, gets machines ready, takes them back.

    SIGTERM: claims nothing more, drains, hands back what it holds, ends. SIGHUP: reads the settings again.
    """
    if version:
        typer.echo(f"vcld {__version__}")
        return
    raise typer.Exit(run_daemon(conf))


def run_daemon(conf: Path | None) -> int:
    """Runs the daemon in this process until it is told to stop; its exit status."""
    settings = read_settings(conf)
    set_up_logs(settings.log)
    return service.run(settings, SystemdNotifier())


def main() -> None:
    """The entry point of `vcld`."""
    raise SystemExit(run_clearly(app, err))


if __name__ == "__main__":
    main()
