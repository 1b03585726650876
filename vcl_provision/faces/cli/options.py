"""What commands have in common: options, and the place that they speak to."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, cast

import typer

from vcl_provision.faces.cli.given import Given
from vcl_provision.faces.place import NoPlace, Place, find_place

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON: all fields, for programs.")]
NumberArgument = Annotated[int, typer.Argument(metavar="N", help="Number of the request, as vcl status shows it.")]
AddressOption = Annotated[str, typer.Option("--address", metavar="ADDRESS", help="Where the user comes from.")]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", envvar="VCL_LAB", help="Where the lab lies.", show_default=False),
]


RepositoryOption = Annotated[
    str, typer.Option("--repository", metavar="ADDRESS", help="A folder, sftp://... or s3://...; else, the lab's own.")
]


def place_of(ctx: typer.Context) -> Place:
    """The database that this command speaks to. Raises Refused, SettingsError."""
    given = cast(Given, ctx.obj)
    return find_place(dsn=given.dsn, conf=given.conf)


def perhaps_place(ctx: typer.Context) -> Place | None:
    """As `place_of`; None if no database was named and no lab is up, for commands that can do without."""
    try:
        return place_of(ctx)
    except NoPlace:
        return None


def here_and_now() -> datetime:
    """Now, in the zone of whoever sits here."""
    return datetime.now().astimezone()
