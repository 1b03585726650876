"""`vcl up`, `vcl down`, `vcl demo`: a lab of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from vcl_provision.faces import demo as demonstration
from vcl_provision.faces.cli.options import FolderOption
from vcl_provision.faces.lab.down import megabytes, take_down
from vcl_provision.faces.lab.folder import SIMULATED, LabFolder, present_lab, usual_folder
from vcl_provision.faces.lab.hypervisor import usual_module
from vcl_provision.faces.lab.up import LabUp, bring_up
from vcl_provision.faces.output import out
from vcl_provision.faces.stages import Stages

PANEL = "A lab of your own"

app = typer.Typer()

SimOption = Annotated[bool, typer.Option("--sim", help="On a simulated hypervisor: needs no root and no packages.")]
ModuleOption = Annotated[str, typer.Option("--module", metavar="NAME", help="On this module's hypervisor.")]
ComputersOption = Annotated[int, typer.Option("--computers", min=1, max=200, help="How many computers.")]


@app.command(rich_help_panel=PANEL, epilog="Examples: vcl up;  vcl up --sim --computers 20")
def up(
    sim: SimOption = False, module: ModuleOption = "", computers: ComputersOption = 4, folder: FolderOption = None
) -> None:
    """Bring up a lab on this machine.

    A PostgreSQL of its own, a hypervisor, an image, computers, vcld. Again: finds it as it is.
    """
    chosen = SIMULATED if sim else module or usual_module()
    there = bring_up(folder or usual_folder(), module=chosen, computers=computers, stages=Stages(out))
    out.print(what_to_try(there), soft_wrap=True)


@app.command(rich_help_panel=PANEL, epilog="Example: vcl down --purge")
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Remove its images and its database too.")] = False,
    folder: FolderOption = None,
) -> None:
    """Take the lab down: nothing is left running.

    Its images and its database stay, so that the next time is faster.
    """
    lab = LabFolder(folder.absolute()) if folder else present_lab() or LabFolder(usual_folder())
    take_down(lab, purge=purge, stages=Stages(out))
    if not purge:
        kept = f"{lab.path} keeps {megabytes(lab)} MB; vcl down --purge removes that too."
        out.print(f"Nothing of it runs. {kept}", soft_wrap=True)


@app.command(rich_help_panel=PANEL, epilog="Examples: vcl demo;  vcl demo --sim")
def demo(sim: SimOption = False, module: ModuleOption = "", folder: FolderOption = None) -> None:
    """Show the whole way of one reservation.

    Brings a lab up, reserves, logs in, gives back, shows the journal, and leaves nothing running.
    """
    chosen = SIMULATED if sim else module or usual_module()
    demonstration.run(folder or usual_folder(), module=chosen, console=out)


def what_to_try(there: LabUp) -> str:
    """What a newcomer can do with it now."""
    image, user = there.images[0], there.users[0]
    return f"""
The lab runs in {there.lab.path}: {len(there.computers)} computers on {there.host} ({there.module}). Try:

  vcl reserve {image} --user {user} --hours 2 --watch
                        a machine for {user}; its number is N from here on
  vcl connect N         log in to it
  vcl status            how all goes; vcl show N, vcl explain N, vcl log -f
  vcl end N             give it back
  vcl computers         what there is; vcl images
  vcl db psql           the same in SQL, as README shows
  vcl down              stop it all

Its database, for other programs:  {there.dsn}
"""
