"""Builds of a tiny system: the whole pipeline in a second, from a package tree made here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from a_need import need, need_root
from a_package_tree import SUITE, package_tree

from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder import BuildSpec, Built, build, merged, read_spec
from vcl_provision.model.faults import Ran

EPOCH = 1_700_000_000
_SPEC: Mapping[str, object] = {
    "distribution": "busybox",
    "suite": SUITE,
    "variant": "extract",
    "grow": False,
    "managed": False,
    "kernel": {"flavour": "none"},
    "packages": {"base": ["tiny-base", "tiny-more"]},
    "disks": {"root": "64M"},
    "system": {"hostname": "tiny"},
}


class Heard:
    """Remembers the name of each command that was run."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def ran(self, where: str, ran: Ran, *, changes: bool) -> None:
        self.names.append(ran.argv[0])

    def count(self, name: str) -> int:
        return self.names.count(name)


@dataclass
class TinyBuilds:
    """Builds in one folder with one cache."""

    folder: Path
    tree: Path
    heard: Heard = field(default_factory=Heard)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def spec(self, changes: Mapping[str, object] | None = None) -> BuildSpec:
        return read_spec(merged({**_SPEC, "source": {"tree": str(self.tree)}}, changes or {}), where="test")

    def build(
        self,
        changes: Mapping[str, object] | None = None,
        *,
        name: str = "out",
        overwrite: bool = False,
        cache: str = "cache",
    ) -> Built:
        """`heard` knows afterwards what this build ran."""
        self.heard = Heard()
        return build(
            self.spec(changes),
            self.folder / name,
            patience=Patience(120),
            cache=self.folder / cache,
            overwrite=overwrite,
            audit=self.heard,
        )

    def left(self) -> list[str]:
        """What lies in folder and cache that no finished build leaves."""
        hidden = [*self.folder.glob(".*"), *self.cache.glob(".*")]
        return sorted(path.name for path in hidden if path.suffix != ".lock" and path.name != ".salt")

    def script(self, name: str, text: str) -> str:
        """A program, and its path."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)


@pytest.fixture(scope="session")
def tiny_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package tree that tiny systems are installed from."""
    need_builds()
    return package_tree(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def tiny_base(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the base system of tiny builds is installed already."""
    folder = tmp_path_factory.mktemp("base")
    TinyBuilds(folder=folder, tree=tiny_tree).build()
    return folder / "cache"


@pytest.fixture
def warm(tiny_base: Path, tiny: TinyBuilds) -> TinyBuilds:
    """As `tiny`, for what is about the stages after the installation: their cache has it."""
    tiny.cache.mkdir()
    for entry in tiny_base.glob("base-*"):
        shutil.copytree(entry, tiny.cache / entry.name)
    return tiny


@pytest.fixture
def tiny(tiny_tree: Path, tmp_path: Path) -> TinyBuilds:
    return TinyBuilds(folder=tmp_path, tree=tiny_tree)


def need_builds() -> None:
    """Skips where builds cannot run, saying why; CI is where they can."""
    need_root()
    need("mmdebstrap", "mke2fs", "qemu-img", "setpriv", "unshare")


def content_of(disk: Path, path: str) -> str:
    """A file in an ext4 file system without partitions, read without mounting it."""
    ran = subprocess.run(("debugfs", "-R", f"cat {path}", disk), capture_output=True, text=True, check=True)
    return ran.stdout


def listed(disk: Path, path: str) -> str:
    """What debugfs says of a file: mode, owner, times; empty if it is not there."""
    ran = subprocess.run(("debugfs", "-R", f"stat {path}", disk), capture_output=True, text=True, check=True)
    return "" if "File not found" in ran.stderr else ran.stdout
