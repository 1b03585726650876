"""A package tree of a few tiny packages, made of this machine's own programs: a system that installs in a second."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

SUITE = "tiny"
PROGRAMS = ("sh", "env", "cat", "mkdir", "chmod", "chown", "sleep", "touch", "id", "ls")


def package_tree(folder: Path, *, version: str = "1") -> Path:
    """`folder` with `dists/` and `pool/`: the packages tiny-base (a shell, a few programs) and tiny-more (a file)."""
    pool = folder / "pool/main"
    pool.mkdir(parents=True)
    base, more = folder / "base", folder / "more"
    for program in PROGRAMS:
        _take(Path(shutil.which(program) or program), base)
    for name in ("dev", "proc", "root", "run", "sys", "tmp", "usr/sbin", "var/log"):
        (base / name).mkdir(parents=True)
    _write(base / "usr/lib/os-release", 'PRETTY_NAME="Tiny 1"\n')
    _write(base / "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    _write(base / "etc/group", "root:x:0:\n")
    _write(more / "usr/share/tiny/more", "more\n")
    stanzas = [_package(base, "tiny-base", version, pool), _package(more, "tiny-more", version, pool)]
    index = folder / f"dists/{SUITE}/main/binary-amd64/Packages"
    _write(index, "\n".join(stanzas))
    listed = f" {hashlib.sha256(index.read_bytes()).hexdigest()} {index.stat().st_size} main/binary-amd64/Packages\n"
    release = (
        f"Origin: Tiny\nSuite: {SUITE}\nCodename: {SUITE}\nArchitectures: amd64\nComponents: main\nSHA256:\n{listed}"
    )
    _write(folder / f"dists/{SUITE}/Release", release)
    for built in (base, more):
        shutil.rmtree(built)
    return folder


def _take(program: Path, root: Path) -> None:
    """A program with the libraries that it is linked to."""
    said = subprocess.run(("ldd", program), capture_output=True, text=True, check=True).stdout
    libraries = [word for line in said.splitlines() for word in line.split() if word.startswith("/")]
    _copy(program, root / "usr/bin" / program.name)
    for library in libraries:
        _copy(Path(library), root / "usr" / library.removeprefix("/usr/").lstrip("/"))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _package(root: Path, name: str, version: str, pool: Path) -> str:
    fields = [
        f"Package: {name}",
        f"Version: {version}",
        "Architecture: amd64",
        "Maintainer: Nobody <nobody@example.org>",
        f"Description: {name}",
    ]
    _write(root / "DEBIAN/control", _lines(fields))
    deb = pool / f"{name}_{version}_amd64.deb"
    subprocess.run(("dpkg-deb", "--root-owner-group", "-Znone", "--build", root, deb), check=True, capture_output=True)
    content = deb.read_bytes()
    where = f"Filename: pool/main/{deb.name}"
    return _lines([*fields, where, f"Size: {len(content)}", f"SHA256: {hashlib.sha256(content).hexdigest()}"])


def _lines(fields: Iterable[str]) -> str:
    return "".join(f"{field}\n" for field in fields)
