"""`vcl computers`, `vcl hosts`, `vcl users`: what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from vcl_provision.faces.cli.options import JsonOption, place_of
from vcl_provision.faces.output import Columns, moment, out, show, spoken_size, state
from vcl_provision.model.faults import Refused
from vcl_provision.store import catalogue, disks, listings

PANEL = "What there is"

app = typer.Typer()
users = typer.Typer(help="Who may reserve.", invoke_without_command=True)
app.add_typer(users, name="users", rich_help_panel=PANEL)

KeyOption = Annotated[
    list[Path] | None, typer.Option("--key", metavar="FILE", help="Public ssh key(s): id_ed25519.pub, authorized_keys.")
]


COMPUTERS: Columns[listings.ListedComputer] = {
    "computer": lambda row: row.name,
    "state": lambda row: state(row.state),
    "request": lambda row: f"{row.request_id} ({row.user})" if row.request_id else "-",
    "holds": lambda row: row.holds or "-",
    "address": lambda row: row.address,
    "host": lambda row: row.host or "-",
    "next from": lambda row: moment(row.next_at) or "-",
}
HOSTS: Columns[disks.ListedHost] = {
    "host": lambda row: row.name,
    "state": lambda row: state("full") if row.refused else state("in service" if row.in_service else "out of service"),
    "computers": lambda row: str(row.computers),
    "masters": lambda row: _room(row.masters_free, row.masters_total, full=row.masters_full),
    "machines": lambda row: _room(row.machines_free, row.machines_total, full=row.machines_full),
    "measured": lambda row: moment(row.measured_at) or "-",
    "loads": lambda row: row.refused or "admitted",
}
USERS: Columns[listings.ListedUser] = {
    "user": lambda row: row.name,
    "affiliation": lambda row: row.affiliation,
    "keys": lambda row: str(len(row.keys)),
    "live requests": lambda row: str(row.live_requests),
}


@app.command(rich_help_panel=PANEL)
def computers(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List computers: what each does, for whom, what it holds."""
    with place_of(ctx).session() as conn:
        rows = listings.computers(conn)
    show(rows, COMPUTERS, as_json=as_json, empty="There are no computers yet.")


@app.command(rich_help_panel=PANEL)
def hosts(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List VM hosts: what their disks have free, and whether loads are refused now."""
    with place_of(ctx).session() as conn:
        rows = disks.hosts(conn)
    show(rows, HOSTS, as_json=as_json, empty="There are no VM hosts yet.")


@users.callback()
def list_users(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List users; vcl users add NAME adds one."""
    if ctx.invoked_subcommand:
        return
    with place_of(ctx).session() as conn:
        rows = listings.users(conn)
    show(rows, USERS, as_json=as_json, empty="There are no users yet. vcl users add NAME --key FILE adds one.")


@users.command("add", epilog="Example: vcl users add alice --key ~/.ssh/id_ed25519.pub")
def add_user(ctx: typer.Context, name: str, key: KeyOption = None) -> None:
    """Add a user, or keys to one. Without a key they get a password for each reservation."""
    keys = [line for file in key or [] for line in _lines(file)]
    with place_of(ctx).session() as conn, conn.transaction():
        catalogue.put_user(conn, name, keys=keys)
    out.print(f"{name} may reserve now{f', with {len(keys)} key(s)' if keys else ''}.")


def _room(free: int | None, total: int | None, *, full: bool) -> Text:
    if free is None or total is None:
        return Text("-")
    return Text(f"{spoken_size(free)} of {spoken_size(total)} free", style="red" if full else "")


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as no:
        raise Refused(f"{file} is no file of public keys: {no}", "it is the one that ends in .pub") from no
    if "PRIVATE KEY" in text:
        raise Refused(f"{file} is a private key: keep it", f"give the public one: {file}.pub")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
