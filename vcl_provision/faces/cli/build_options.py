"""The options of `vcl build` in one table: each says which key of a profile it changes."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from vcl_provision.images.builder import Target
from vcl_provision.model.faults import Refused

Reader = Callable[[Any], object]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One option. `key` is where in a profile it goes; `many` may be given again; `read` makes the profile's value of
    what was typed; `value` is the value of an option that is only said.
    """

    flag: str
    key: str
    about: str
    metavar: str = "TEXT"
    many: bool = False
    number: bool = False
    value: object = None
    read: Reader = lambda said: said

    @property
    def parameter(self) -> str:
        """Its name in Python."""
        return self.flag.lstrip("-").replace("-", "_")

    def option(self, panel: str) -> inspect.Parameter:
        """As typer wants it."""
        said = self.value is not None
        kind: Any = bool if said else int | None if self.number else list[str] | None if self.many else str | None
        made = typer.Option(
            self.flag,
            help=self.about,
            metavar=None if said else self.metavar,
            rich_help_panel=panel,
            show_default=False,
        )
        return inspect.Parameter(
            self.parameter,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if said else None,
            annotation=Annotated[kind, made],
        )


def _pair(said: str) -> dict[str, object]:
    source, colon, target = said.rpartition(":")
    if not colon:
        raise Refused(f"--copy {said}: where to?", "give SOURCE:TARGET")
    return {"source": _path(source), "target": target}


def _path(said: str) -> str:
    """A path from here; a profile's own are from the profile's folder."""
    return str(Path(said).expanduser().absolute())


def _key(said: str) -> str:
    return said if " " in said else _path(said)


def _lines(said: str) -> list[object]:
    try:
        text = Path(said).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as no:
        raise Refused(f"{said} cannot be read: {no}") from no
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _copies(said: str) -> list[object]:
    """VMBuilder's list of files: `SOURCE TARGET` a line, quoted as in a shell where there are blanks."""
    copies: list[object] = []
    for line in _lines(said):
        words = shlex.split(str(line))
        if len(words) != 2:
            raise Refused(f"{said}: {line!r} is no `SOURCE TARGET`", "quote names with blanks in them")
        copies.append({"source": _path(words[0]), "target": words[1]})
    return copies


def _group(said: str) -> dict[str, object]:
    name, _, number = said.partition("=")
    if number and not number.isdigit():
        raise Refused(f"--group {said}: {number!r} is no number", "NAME, or NAME=GID")
    return {name: int(number) if number else None}


def _c(flag: str, key: str, about: str, metavar: str = "TEXT", **more: Any) -> Choice:
    return Choice(flag=flag, key=key, about=about, metavar=metavar, **more)


TABLE: Mapping[str, Sequence[Choice]] = {
    "System": (
        _c("--distribution", "distribution", "debian, ubuntu, busybox.", "NAME"),
        _c("--suite", "suite", "Release, by its code name.", "NAME"),
        _c("--hostname", "system.hostname", "Host name.", "NAME"),
        _c("--domain", "system.domain", "Domain.", "NAME"),
        _c("--locale", "system.locale", "Locale; `host` for this host's.", "NAME"),
        _c("--timezone", "system.timezone", "Time zone; `host` for this host's.", "ZONE"),
        _c("--keymap", "system.keymap", "Keyboard layout; `host` for this host's.", "NAME"),
        _c("--flavour", "kernel.flavour", "Kernel: cloud, generic, rt; `none` for none.", "NAME"),
        _c("--kernel-options", "kernel.command_line", "What the kernel is told besides its root."),
        _c("--unmanaged", "managed", "Leave out what a management node relies on.", value=False),
    ),
    "Packages": (
        _c("--package", "packages.add", "Add a package.", "NAME", many=True),
        _c("--remove-package", "packages.remove", "Remove a package.", "NAME", many=True),
        _c("--debconf", "packages.debconf", "File of debconf seeds.", "FILE", read=_lines),
        _c("--mirror", "source.mirrors", "Where packages come from: URL, or line of sources.list.", "URL", many=True),
        _c("--guest-mirror", "source.guest", "What the guest's own sources.list says.", "URL", many=True),
        _c("--component", "source.components", "Further component of the archive.", "NAME", many=True),
        _c("--package-tree", "source.tree", "Local package tree (dists/, pool/).", "DIR", read=_path),
        _c("--iso", "source.iso", "Disc image with packages.", "FILE", read=_path),
        _c("--keyring", "source.keyring", "Keys that the mirror signs with.", "FILE", read=_path),
        _c("--proxy", "source.proxy", "HTTP proxy.", "URL"),
    ),
    "Disks": (
        _c("--root-size", "disks.root", "Root file system, like 8G; a number is MiB.", "SIZE"),
        _c("--swap-size", "disks.swap", "Swap.", "SIZE"),
        _c("--opt-size", "disks.opt", "File system at /opt.", "SIZE"),
        _c("--layout", "disks.layout", "Layout file: several disks, LVM.", "FILE", read=_path),
        _c("--table", "disks.table", "gpt or mbr.", "NAME"),
        _c("--filesystem", "disks.filesystem", "ext4, xfs, btrfs.", "NAME"),
        _c("--device", "disks.devices", "Write to this block device.", "PATH", many=True, read=_path),
        _c("--boot", "boot", "direct, bios, uefi, bios+uefi.", "NAME"),
        _c("--no-grow", "grow", "The root does not grow with the disk.", value=False),
    ),
    "Accounts": (
        _c("--root-password", "accounts.root_password", "Its source: file:PATH, env:NAME, stdin.", "SOURCE"),
        _c("--ssh-key", "accounts.root_keys", "Root's ssh key.", "FILE", many=True, read=_key),
        _c("--group", "accounts.groups", "Make a group.", "NAME[=GID]", many=True, read=_group),
        _c("--user", "user.name", "Make a user.", "NAME"),
        _c("--full-name", "user.full_name", "The user's full name."),
        _c("--uid", "user.uid", "The user's number.", "N", number=True),
        _c("--gid", "user.gid", "The user's group's number.", "N", number=True),
        _c("--user-group", "user.groups", "Further group of the user.", "NAME", many=True),
        _c("--password", "user.password", "Its source: file:PATH, env:NAME, stdin.", "SOURCE"),
        _c("--ssh-user-key", "user.keys", "The user's ssh key.", "FILE", many=True, read=_key),
        _c("--lock-user", "user.locked", "Nobody can log in as this user yet.", value=True),
    ),
    "Network": (
        _c("--ip", "network.addresses", "Address with prefix length; none: DHCP.", "ADDRESS/N", many=True),
        _c("--gateway", "network.gateways", "Gateway.", "ADDRESS", many=True),
        _c("--dns", "network.dns", "Name server.", "ADDRESS", many=True),
        _c("--mac", "network.mac", "Hardware address.", "MAC"),
    ),
    "Files and scripts": (
        _c("--copy", "files", "Copy a file or folder.", "SOURCE:TARGET", many=True, read=_pair),
        _c("--copy-list", "files", "File of `SOURCE TARGET` lines.", "FILE", read=_copies),
        _c("--script", "scripts.inside", "Run inside the guest's tree.", "FILE", many=True, read=_path),
        _c("--host-script", "scripts.host", "Run on this host with the tree's path.", "FILE", many=True, read=_path),
        _c("--first-boot", "scripts.first_boot", "Run once in the machine, before any login.", "FILE", read=_path),
        _c("--first-login", "scripts.first_login", "Run once, with the first to log in.", "FILE", read=_path),
    ),
    "Output": (
        _c("--format", "output.formats", "qcow2, raw, vmdk, vdi, vhdx.", "NAME", many=True),
        _c("--deploy", "output.deployments", f"What starts it: {', '.join(Target)}.", "NAME", many=True),
        _c("--memory", "machine.memory_mb", "Memory of the machine, MiB.", "MIB", number=True),
        _c("--cpus", "machine.cpus", "Processors of the machine.", "N", number=True),
        _c("--source-date-epoch", "source_date_epoch", "Reproducible: no time is later.", "SECONDS", number=True),
    ),
}

_INSTEAD = (("output", "formats"), ("output", "deployments"), ("source", "mirrors"))
"""Lists that an option replaces: who asks for raw does not want the profile's qcow2 besides."""


def parameters() -> list[inspect.Parameter]:
    """One for each option."""
    return [choice.option(panel) for panel, choices in TABLE.items() for choice in choices]


def changes(given: Mapping[str, Any]) -> dict[str, object]:
    """What the given options change in a profile, as a table. Raises Refused for values that cannot be read."""
    table: dict[str, Any] = {}
    for choices in TABLE.values():
        for choice in choices:
            said = given.get(choice.parameter)
            if said is not None and said is not False:
                _put(table, choice, said)
    user = table.pop("user", None)
    if user:
        if "name" not in user:
            raise Refused("options of a user need --user NAME")
        table.setdefault("accounts", {})["users"] = [user]
    return table


def replaced(table: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """The profile's table without the lists that options replace."""
    whole = dict(table)
    for section, name in _INSTEAD:
        if name in changed.get(section, {}) and section in whole:
            whole[section] = {key: value for key, value in whole[section].items() if key != name}
    return whole


def _put(table: dict[str, Any], choice: Choice, said: Any) -> None:
    *folders, name = choice.key.split(".")
    for folder in folders:
        table = table.setdefault(folder, {})
    if choice.value is not None:
        table[name] = choice.value
    elif choice.many:
        values = [choice.read(one) for one in said]
        if choice.key == "accounts.groups":
            table[name] = {key: value for group in values for key, value in group.items()}
        else:
            table[name] = [*table.get(name, []), *values]
    else:
        value = choice.read(said)
        table[name] = [*table.get(name, []), *value] if isinstance(value, list) else value
