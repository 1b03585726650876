"""`vcl build`: from a profile to a machine's disks."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from vcl_provision.channels.patience import Patience
from vcl_provision.faces.cli import build_options
from vcl_provision.faces.cli.options import JsonOption, place_of
from vcl_provision.faces.images.building import make, order_of
from vcl_provision.faces.images.ordering import enqueue
from vcl_provision.faces.lab.people import usual_user
from vcl_provision.faces.output import Columns, err, out, print_json, show
from vcl_provision.faces.place import Place
from vcl_provision.faces.stages import Stages
from vcl_provision.images.builder import (
    ONE_WEEK,
    BuildLog,
    BuildSpec,
    Built,
    Cache,
    Plan,
    Target,
    build,
    find_profile,
    merged,
    plan_build,
    profile_names,
    read_profile,
    read_spec,
    stages,
    usual_cache,
    write_profile,
)
from vcl_provision.model.faults import CommandFailed

PANEL = "Images"
LIST = "list"

app = typer.Typer()

ProfileArgument = Annotated[
    str, typer.Argument(metavar="PROFILE", help="One of `vcl build list`, or a YAML file.", show_default=False)
]
INTO = typer.Option("--into", metavar="DIR", help="Where the image goes; HOSTNAME-SUITE-ARCH-vm here.")
_OWN: dict[str, Any] = {
    "into": Annotated[Path | None, INTO],
    "into_store": Annotated[
        bool, typer.Option("--into-store", help="Make it a revision of the lab's repository that people can reserve.")
    ],
    "queue": Annotated[bool, typer.Option("--queue", help="The same, built by a builder: see vcl builds.")],
    "image": Annotated[str, typer.Option("--image", metavar="NAME", help="In the store: of which image.")],
    "sudo": Annotated[bool, typer.Option("--sudo", help="In the store: its users may become root.")],
    "install_type": Annotated[str, typer.Option("--install-type", metavar="WORD", help="In the store: what loads it.")],
    "overwrite": Annotated[bool, typer.Option("--overwrite", help="Replace an image that is there, at the end.")],
    "dry_run": Annotated[bool, typer.Option("--dry-run", help="Print the plan, do nothing.")],
    "save_profile": Annotated[Path | None, typer.Option("--save-profile", metavar="FILE", help="Save as a profile.")],
    "cache": Annotated[Path | None, typer.Option("--cache", metavar="DIR", help="Where stages are kept.")],
    "refresh": Annotated[bool, typer.Option("--refresh", help="Take no packages from the cache of stages.")],
    "log": Annotated[Path | None, typer.Option("--log", metavar="FILE", help="What its programs say.")],
    "minutes": Annotated[int, typer.Option("--minutes", min=1, help="At most so long.")],
    "as_json": JsonOption,
}
_DEFAULTS = {
    "into_store": False,
    "queue": False,
    "image": "",
    "sudo": False,
    "install_type": "",
    "overwrite": False,
    "dry_run": False,
    "refresh": False,
    "minutes": 60,
    "as_json": False,
}


@dataclass(frozen=True)
class ListedProfile:
    """A line of `vcl build list`."""

    profile: str
    about: str


PROFILES: Columns[ListedProfile] = {"profile": lambda row: row.profile, "about": lambda row: row.about}


def _listed(name: str) -> ListedProfile:
    return ListedProfile(name, read_spec(read_profile(find_profile(name)), where=name).about)


def build_command(ctx: typer.Context, profile: str, **given: Any) -> None:
    """Build a virtual machine: its disks, and what starts it; or an image that people can reserve."""
    if profile == LIST:
        rows = [_listed(name) for name in profile_names()]
        show(rows, PROFILES, as_json=given["as_json"], empty="There are no profiles.")
        return
    spec = _spec(profile, given)
    if given["save_profile"]:
        write_profile(spec, given["save_profile"])
        err.print(f"Saved as {given['save_profile']}.")
    if (given["into_store"] or given["queue"]) and not given["dry_run"]:
        _for_the_store(place_of(ctx), profile, spec, given)
        return
    cache = Cache(given["cache"] or usual_cache())
    plan = plan_build(spec, cache)
    into = given["into"] or Path(plan.name)
    if given["dry_run"]:
        _show_plan(plan, into, cache, as_json=given["as_json"])
    else:
        _build(plan, into, cache, given)


def _for_the_store(place: Place, profile: str, spec: BuildSpec, given: dict[str, Any]) -> None:
    image = given["image"] or Path(profile).stem
    order = order_of(image, spec, sudo=given["sudo"], install_type=given["install_type"])
    if given["queue"]:
        with place.listener([]) as listener:
            number = enqueue(listener, order, asked_by=usual_user())
        if given["as_json"]:
            print_json({"build": number, "image": image})
        return
    with Stages(err if given["as_json"] else out).stage(f"image: {image}") as say:
        name = make(order, place, "", cache=given["cache"], patience=Patience(given["minutes"] * 60), say=say)
    if given["as_json"]:
        print_json({"revision": name, "image": image})
    else:
        out.print(f"{name} is what people get now: vcl reserve {image}", soft_wrap=True)


def _spec(profile: str, given: dict[str, Any]) -> BuildSpec:
    path = find_profile(profile)
    changed = build_options.changes(given)
    table = merged(build_options.replaced(read_profile(path), changed), changed)
    spec = read_spec(table, where=str(path))
    if spec.output.deployments or spec.disks.devices or spec.kernel.flavour == "none":
        return spec
    return replace(spec, output=replace(spec.output, deployments=(Target.SCRIPT,)))


def _show_plan(plan: Plan, into: Path, cache: Cache, *, as_json: bool) -> None:
    shown = stages(plan, cache, into)
    if as_json:
        print_json({"into": into, "stages": shown})
        return
    table = Table.grid(padding=(0, 2))
    for stage in shown:
        cached = Text("cached", style="green") if stage.cached else Text("")
        table.add_row(Text(stage.name, style="bold"), Text("\n".join(stage.does)), cached)
    out.print(table)


def _build(plan: Plan, into: Path, cache: Cache, given: dict[str, Any]) -> None:
    seconds: dict[str, float] = {}
    console = Stages(err if given["as_json"] else out)
    log = _log(into, cache, given["log"])

    @contextmanager
    def stage(name: str) -> Generator[Callable[[str], None]]:
        began = time.monotonic()
        with console.stage(name) as say:
            yield say
        seconds[name] = time.monotonic() - began

    try:
        built = build(
            plan,
            into,
            patience=Patience(given["minutes"] * 60),
            cache=cache.folder,
            overwrite=given["overwrite"],
            max_age=0 if given["refresh"] else ONE_WEEK,
            stages=stage,
            audit=log,
        )
    except CommandFailed as failed:
        hint = "; ".join(filter(None, (failed.hint, f"all that was said is in {log.path}")))
        raise CommandFailed(failed.said, hint, ran=failed.ran) from failed
    _say_what_came(built, seconds, as_json=given["as_json"])


def _log(into: Path, cache: Cache, asked: Path | None) -> BuildLog:
    """Where it was asked for; else in the cache, in the place of that of the last build of this name."""
    if asked:
        return BuildLog(asked)
    path = cache.folder / "logs" / f"{into.name}.log"
    path.unlink(missing_ok=True)
    return BuildLog(path)


def _say_what_came(built: Built, seconds: dict[str, float], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "folder": built.folder,
                "image": built.descriptor,
                "seconds": seconds,
                "start": built.how_to_start,
                "private_keys": built.private_keys,
            }
        )
        return
    size = f" ({built.descriptor.size_bytes >> 20} MB)" if built.descriptor else ""
    out.print(f"{built.folder}{size}", soft_wrap=True)
    for path in built.private_keys:
        out.print(f"every machine made of it will have the private key {path}", soft_wrap=True)
    if built.how_to_start:
        out.print(built.how_to_start, soft_wrap=True)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer sees it: its profile, the options of the table, its own."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [
        inspect.Parameter(name, keyword, default=_DEFAULTS.get(name), annotation=annotation)
        for name, annotation in _OWN.items()
    ]
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = [
        inspect.Parameter("ctx", positional, annotation=typer.Context),
        inspect.Parameter("profile", positional, annotation=ProfileArgument),
    ]
    found = [*first, *own, *build_options.parameters()]
    command.__signature__ = inspect.Signature(found)  # type: ignore[attr-defined] - what inspect looks at first
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in found}
    return command


app.command(
    "build", rich_help_panel=PANEL, epilog="Examples: vcl build list;  vcl build server --hostname web1 --boot bios"
)(_with_options(build_command))
