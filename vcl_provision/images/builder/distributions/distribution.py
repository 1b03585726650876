"""What the builder asks of a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.images.builder.host import BuildHost, Chroot
from vcl_provision.images.builder.spec import BuildSpec
from vcl_provision.images.builder.tree import RootTree


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A guest's tree while it is configured: its files, its programs, what it is to become."""

    spec: BuildSpec
    tree: RootTree
    inside: Chroot


class Distribution(ABC):
    """How one family of systems is installed and told its settings.

    What is alike everywhere (accounts, files, scripts, names, the end of the build) is in `configuration`; here is what
    differs: packages, network, services, locale and keymap, the first ram disk.
    """

    name: str
    suites: Sequence[str]
    """Those that it is tested with; the first one is the default. Others are tried all the same."""

    @abstractmethod
    def settled(self, spec: BuildSpec) -> BuildSpec:
        """The spec with the distribution's defaults in the place of what it leaves open."""

    @abstractmethod
    def problems(self, spec: BuildSpec) -> Iterator[str]:
        """What of the spec this distribution cannot do."""

    @abstractmethod
    def tools(self, spec: BuildSpec) -> Mapping[str, str]:
        """Programs that it needs of the host: name to Debian package."""

    @abstractmethod
    def layers(self, spec: BuildSpec) -> Sequence[Sequence[str]]:
        """Packages, layer upon layer: each is installed and kept by itself, and shared by images that begin alike."""

    @abstractmethod
    def install(
        self,
        spec: BuildSpec,
        packages: Sequence[str],
        *,
        onto: Path | None,
        tree: Path | None,
        into: Path,
        host: BuildHost,
    ) -> None:
        """Writes the archive `into` (tar): the packages on top of the archive `onto`, or a new system.

        `tree`: where a local package tree lies. No service starts. Raises Refused, CommandFailed.
        """

    @abstractmethod
    def configure(self, guest: Guest) -> None:
        """Init, network, locale, keymap, services."""

    @abstractmethod
    def remove(self, guest: Guest, packages: Sequence[str]) -> None:
        """Takes packages out."""

    @abstractmethod
    def make_initrd(self, guest: Guest, version: str) -> None:
        """Writes `boot/initrd.img-VERSION`."""

    @abstractmethod
    def packages(self, guest: Guest) -> str:
        """The packages that are in it: one a line, sorted; name, version, architecture, between tabs."""

    @abstractmethod
    def finished(self, guest: Guest) -> None:
        """The last thing that is done to the tree."""

    def command_line(self, spec: BuildSpec, root: str) -> str:
        """What a kernel is told that is handed over; `root` is how it finds its root: LABEL=..., UUID=..."""
        return f"root={root} rw {spec.kernel.command_line}".strip()

    def system_name(self, guest: Guest) -> str:
        """What it calls itself, as in os-release(5)."""
        text = guest.tree.place("usr/lib/os-release").read_text(encoding="utf-8")
        words = [line.partition("=")[2].strip('"') for line in text.splitlines() if line.startswith("PRETTY_NAME=")]
        return words[0] if words else self.name
