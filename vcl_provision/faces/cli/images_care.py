"""`vcl images verify`, `delete`, `gc`: looking after a repository."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from vcl_provision.channels.patience import Patience
from vcl_provision.faces.cli.options import JsonOption, RepositoryOption, perhaps_place
from vcl_provision.faces.errors import Exit, show_failure
from vcl_provision.faces.images.bar import bar
from vcl_provision.faces.images.choosing import addresses_of, chosen, lab_of, named
from vcl_provision.faces.images.collecting import Collection, Removed
from vcl_provision.faces.images.comparing import Finding, compare
from vcl_provision.faces.output import Columns, err, out, show, state
from vcl_provision.faces.place import Place
from vcl_provision.images.repository import Repository, verify
from vcl_provision.images.repository import delete as delete_revision
from vcl_provision.store import revisions

app = typer.Typer()

FINDINGS: Columns[Finding] = {
    "revision": lambda row: row.name,
    "": lambda row: state("broken") if row.fault else "note",
    "found": lambda row: row.said,
}
GARBAGE: Columns[Removed] = {
    "size": lambda row: f"{row.bytes >> 20} MB",
    "why": lambda row: row.why,
    "where": lambda row: row.where,
    "file": lambda row: row.path,
}


@app.command("verify", epilog="Examples: vcl images verify;  vcl images verify debian12-v3 --json")
def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="This revision only.", show_default=False)] = "",
    repository: RepositoryOption = "",
    minutes: Annotated[int, typer.Option("--minutes", min=1, help="At most so long.")] = 600,
    as_json: JsonOption = False,
) -> None:
    """Read every content and compare its checksum; compare descriptors with the database. Mends nothing."""
    place = perhaps_place(ctx)
    with chosen(repository, place) as there:
        found = [] if name else _database_beside(there, lab_of(there, place))
        wanted = [named(there, name)] if name else there.revisions().good
        with bar("verifying", err) as progress:
            found += [
                Finding(name=each.said, said=each.fault)
                for each in verify(there, wanted, patience=Patience(minutes * 60), progress=progress)
                if each.fault
            ]
    show(found, FINDINGS, as_json=as_json, empty=f"All is as it is said to be: {len(wanted)} revision(s).")
    raise typer.Exit(Exit.REFUSED if any(each.fault for each in found) else Exit.DONE)


@app.command("delete", epilog="Example: vcl images delete debian12-v1")
def delete(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The revision's name.")],
    retire: Annotated[
        bool, typer.Option("--retire", help="Also if people get it: the image cannot be reserved any more then.")
    ] = False,
    repository: RepositoryOption = "",
) -> None:
    """Delete a revision that nothing needs: no other revision, no machine, no reservation."""
    place = perhaps_place(ctx)
    with chosen(repository, place) as there:
        lab = lab_of(there, place)
        if lab is None:
            delete_revision(there, name, needed={}, patience=Patience(60))
        else:
            with lab.session() as conn, conn.transaction():
                if retire:
                    revisions.retire(conn, name)
                revisions.give_up(conn, name)
                delete_revision(there, name, needed=revisions.needed(conn), patience=Patience(60))
        elsewhere = f" --repository {there}" if repository and lab is None else ""
    out.print(f"{name} is gone; vcl images gc{elsewhere} makes room of what only it had.", soft_wrap=True)


@app.command("gc", epilog="Example: vcl images gc --dry-run")
def clean(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    hours: Annotated[float, typer.Option("--older-than", metavar="HOURS", min=0, help="Keep what is younger.")] = 24,
    repository: RepositoryOption = "",
    as_json: JsonOption = False,
) -> None:
    """Remove contents that no revision names, what transfers left that never ended, and masters that nothing needs.

    In all repositories of the lab and on its VM hosts; in one repository, if it is named.
    """
    now, grace = datetime.now(UTC), timedelta(hours=hours)
    place = perhaps_place(ctx)
    collection = Collection(now=now, grace=grace, dry_run=dry_run)
    addresses = addresses_of(repository, place)
    if place is not None and not repository:
        # First: a master that is the repository's own file looks young once the repository has dropped it.
        collection.clean_hosts(place)
    for address in addresses:
        collection.clean_repository(address)
    found = collection.removed
    show(found, GARBAGE, as_json=as_json, empty="There is nothing to remove.")
    if found and not as_json:
        size = sum(each.bytes for each in found) >> 20
        out.print(f"{size} MB {'would be' if dry_run else 'are'} free.", style="dim")
    for failed in collection.faults:
        show_failure(failed, err)
    raise typer.Exit(Exit.REFUSED if collection.faults else Exit.DONE)


def _database_beside(repository: Repository, lab: Place | None) -> list[Finding]:
    listing = repository.revisions()
    if lab is None:
        return [Finding(name=each.name, said=f"its descriptor {each.reason}") for each in listing.bad]
    with lab.session() as conn:
        return compare(listing, revisions.catalogued(conn))
