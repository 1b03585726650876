"""`vcl images`: what can be reserved, and the store that it comes from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.faces.cli.images_care import app as care
from vcl_provision.faces.cli.options import JsonOption, RepositoryOption, perhaps_place, place_of
from vcl_provision.faces.images.adding import naming, offer, renamed
from vcl_provision.faces.images.bar import bar
from vcl_provision.faces.images.choosing import chosen, named
from vcl_provision.faces.output import Columns, err, out, print_json, show, state
from vcl_provision.images.exchange import export_image, import_image
from vcl_provision.images.repository import ImageDescriptor, Repository, open_repository, written
from vcl_provision.images.repository.loose import NAME, read_loose
from vcl_provision.store import listings

PANEL = "What there is"

app = typer.Typer()
images = typer.Typer(help="Images, and the repository that they come from.", invoke_without_command=True)
app.add_typer(images, name="images", rich_help_panel=PANEL)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A revision's name, or words: debian 12 server.")]
ImageOption = Annotated[str, typer.Option("--image", metavar="NAME", help="Of which image it is the next revision.")]
SystemOption = Annotated[
    str, typer.Option("--system", metavar="WORDS", help="What runs inside: family, version, variant, architecture.")
]
OfferOption = Annotated[
    bool, typer.Option("--offer", help="Make it the revision that people get who reserve the image.")
]
InstallOption = Annotated[str, typer.Option("--install-type", metavar="WORD", help="With --offer: what loads it.")]
SudoOption = Annotated[bool, typer.Option("--sudo", help="With --offer: its users may become root.")]
MinutesOption = Annotated[int, typer.Option("--minutes", min=1, help="At most so long.")]

IMAGES: Columns[listings.ListedImage] = {
    "image": lambda row: row.name,
    "revision": lambda row: str(row.revision),
    "system": lambda row: row.os,
    "needs": lambda row: f"{row.min_ram_mb} MiB",
    "root": lambda row: "yes" if row.root_access else "no",
    "computers": lambda row: f"{row.reserved} of {row.computers} in use",
}
REVISIONS: Columns[dict[str, Any]] = {
    "revision": lambda row: row["name"],
    "state": lambda row: state(row["state"]),
    "system": lambda row: row["key"],
    "disks": lambda row: row["disks"],
    "size": lambda row: f"{row['bytes'] >> 20} MB" if row["bytes"] else "-",
    "about": lambda row: row["about"],
}


@images.callback()
def list_images(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List images that can be reserved; vcl images list shows what lies in the repository."""
    if ctx.invoked_subcommand:
        return
    with place_of(ctx).session() as conn:
        rows = listings.images(conn)
    show(rows, IMAGES, as_json=as_json, empty="There are no images yet.")


@images.command("list", epilog="Examples: vcl images list;  vcl images list debian 12")
def list_revisions(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(help="Only those that these words fit.")] = None,
    repository: RepositoryOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the revisions of a repository, bad ones with what is wrong. Asks no hypervisor."""
    with chosen(repository, perhaps_place(ctx)) as there:
        if words:
            rows = [_row(descriptor) for descriptor in there.match(" ".join(words))]
        else:
            listing = there.revisions()
            bad = [
                {"name": each.name, "state": "bad", "key": "", "disks": "", "bytes": 0, "about": each.reason}
                for each in listing.bad
            ]
            rows = [*map(_row, listing.good), *bad]
        show(rows, REVISIONS, as_json=as_json, empty=f"{there} holds no images. vcl build makes one.")


@images.command("show", epilog="Example: vcl images show debian12-v3")
def show_revision(
    ctx: typer.Context, name: NameArgument, repository: RepositoryOption = "", as_json: JsonOption = False
) -> None:
    """Show what a revision consists of: its descriptor."""
    with chosen(repository, perhaps_place(ctx)) as there:
        descriptor = named(there, name)
    if as_json:
        print_json({**asdict(descriptor), "key": descriptor.key, "bytes": descriptor.size_bytes})
    else:
        out.print(written(descriptor).decode(), markup=False, soft_wrap=True, end="")


@images.command("add", epilog="Examples: vcl images add web1-bookworm-amd64-vm --image web --offer")
def add(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="FOLDER|NAME", help="A built image's folder; or a revision to offer.")],
    image: ImageOption = "",
    system: SystemOption = "",
    offered: OfferOption = False,
    install_type: InstallOption = "",
    sudo: SudoOption = False,
    repository: RepositoryOption = "",
    minutes: MinutesOption = 120,
) -> None:
    """Add an image that was built elsewhere; or, with --offer, have people get a revision that is there."""
    with chosen(repository, perhaps_place(ctx)) as there:
        if (Path(what) / NAME).exists():
            loose = read_loose(Path(what))
            descriptor = renamed(loose.descriptor, there, image, system)
            with bar(f"adding {descriptor.name}", err) as progress:
                there.add(descriptor, loose.files, patience=Patience(minutes * 60), progress=progress)
        else:
            descriptor = there.get(what)
        _added(ctx, there, descriptor, offered=offered, install_type=install_type, sudo=sudo)


@images.command("import", epilog="Example: vcl images import web.ova --image web --offer")
def import_file(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="OVA, OVF; or a disk: qcow2, raw, img, vmdk, vdi, vhdx.")
    ],
    image: Annotated[str, typer.Option("--image", metavar="NAME", help="Of which image it is the next revision.")],
    system: SystemOption = "",
    offered: OfferOption = False,
    install_type: InstallOption = "",
    sudo: SudoOption = False,
    repository: RepositoryOption = "",
    minutes: MinutesOption = 120,
) -> None:
    """Bring in what another hypervisor exported."""
    with chosen(repository, perhaps_place(ctx)) as there:
        new = naming(there, image, system)
        with bar(f"importing {new.name}", err) as progress:
            descriptor = import_image(
                file, there, new, channel=LocalChannel(), patience=Patience(minutes * 60), progress=progress
            )
        _added(ctx, there, descriptor, offered=offered, install_type=install_type, sudo=sudo)


@images.command("export", epilog="Example: vcl images export debian12-v3 debian12.ova")
def export_file(
    ctx: typer.Context,
    name: NameArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Its ending says what is written: .ova, .ovf, .vmdk ...")
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there, at the end.")] = False,
    repository: RepositoryOption = "",
    minutes: MinutesOption = 120,
) -> None:
    """Write a revision as another hypervisor reads it: a package, or its system's disk alone."""
    with chosen(repository, perhaps_place(ctx)) as there:
        descriptor = named(there, name)
        with bar(f"exporting {descriptor.name}", err) as progress:
            export_image(
                there,
                descriptor.name,
                file,
                channel=LocalChannel(),
                patience=Patience(minutes * 60),
                progress=progress,
                overwrite=overwrite,
            )
    out.print(f"{file} is {descriptor.name}.", soft_wrap=True)


@images.command("copy", epilog="Example: vcl images copy debian12-v3 sftp://vcl@node2/srv/images")
def copy(
    ctx: typer.Context,
    name: NameArgument,
    to: Annotated[str, typer.Argument(metavar="ADDRESS", help="A folder, sftp://..., s3://...")],
    repository: RepositoryOption = "",
    minutes: MinutesOption = 120,
) -> None:
    """Copy a revision to another repository; what is there already is not sent."""
    with chosen(repository, perhaps_place(ctx)) as here:
        descriptor, there = named(here, name), open_repository(to)
        with bar(f"copying {descriptor.name}", err) as progress:
            here.copy_to(there, descriptor, patience=Patience(minutes * 60), progress=progress)
        out.print(f"{there} has {descriptor.name} now.", soft_wrap=True)
        there.close()


def _added(
    ctx: typer.Context,
    repository: Repository,
    descriptor: ImageDescriptor,
    *,
    offered: bool,
    install_type: str,
    sudo: bool,
) -> None:
    if offered:
        with place_of(ctx).session() as conn, conn.transaction():
            offer(conn, descriptor, install_type=install_type, sudo=sudo)
        out.print(f"{descriptor.name} is what people get now: vcl reserve {descriptor.image}", soft_wrap=True)
        return
    out.print(f"{repository} has {descriptor.name} now.", soft_wrap=True)
    out.print(f"To have people get it: vcl images add {descriptor.name} --offer", style="dim", soft_wrap=True)


def _row(descriptor: ImageDescriptor) -> dict[str, Any]:
    return {
        "name": descriptor.name,
        "state": "ok",
        "key": descriptor.key,
        "disks": ", ".join(str(disk.role) for disk in descriptor.disks),
        "bytes": descriptor.size_bytes,
        "about": descriptor.os.name,
    }


images.registered_commands.extend(care.registered_commands)
