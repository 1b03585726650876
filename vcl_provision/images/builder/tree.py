"""Files of a guest's tree. Its links are the guest's: they are never followed out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vcl_provision.model.faults import Refused

_MOST_LINKS = 40
"""Links in one path before it counts as a circle, as in Linux."""


class RootTree:
    """A folder that will be a guest's `/`. Paths are the guest's, with or without the first slash.

    What is written belongs to whoever builds, who is root inside. Raises Refused for a path whose links go in circles.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, path: str) -> Path:
        """Where a path of the guest is here: links followed as the guest would, the last name as it is."""
        folder, name = os.path.split(path.strip("/"))
        return self._followed(folder) / name

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> Path:
        """A file, whatever was there, and the folders to it."""
        target = self.place(path)
        self._folders(target.parent)
        target.unlink(missing_ok=True)
        with target.open("xb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content.encode() if isinstance(content, str) else content)
        return target

    def append(self, path: str, content: str) -> None:
        """Adds to the end of a text, which is made if it is not there."""
        target = self.place(path)
        old = target.read_text(encoding="utf-8") if target.is_file() and not target.is_symlink() else ""
        self.write(path, old + content)

    def link(self, path: str, to: str) -> None:
        """A symbolic link, whatever was there."""
        target = self.place(path)
        self._folders(target.parent)
        target.unlink(missing_ok=True)
        target.symlink_to(to)

    def folder(self, path: str, mode: int = 0o755) -> Path:
        """A folder, and those to it."""
        target = self.place(path)
        self._folders(target)
        target.chmod(mode)
        return target

    def remove(self, pattern: str) -> None:
        """Files and links that match a pattern of names. Folders stay."""
        folder, name = os.path.split(pattern.strip("/"))
        for path in self._followed(folder).glob(name):
            if path.is_symlink() or not path.is_dir():
                path.unlink()

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.place(path))

    def lay(self, tree: Path) -> None:
        """Lays the files of a folder in; what begins with `#!` becomes a program, whatever an installer made of it."""
        for source in sorted(path for path in tree.rglob("*") if path.is_file()):
            content = source.read_bytes()
            self.write(str(source.relative_to(tree)), content, 0o755 if content.startswith(b"#!") else 0o644)

    def _folders(self, folder: Path) -> None:
        """Folders of a guest are readable, whatever the builder's umask."""
        for each in reversed([folder, *folder.parents]):
            if each.is_relative_to(self.root) and not each.is_dir():
                each.mkdir(mode=0o755)
                each.chmod(0o755)

    def _followed(self, path: str) -> Path:
        here, links = self.root, 0
        names = list(reversed(_names(path)))
        while names:
            name = names.pop()
            if name == "..":
                here = here.parent if here != self.root else here
                continue
            here = here / name
            if here.is_symlink():
                links += 1
                if links > _MOST_LINKS:
                    raise Refused(f"the links of {path} in the guest go in circles")
                to = str(here.readlink())
                here = self.root if to.startswith("/") else here.parent
                names.extend(reversed(_names(to)))
        return here


def _names(path: str) -> list[str]:
    return [name for name in PurePosixPath(path).parts if name not in {"/", "."}]


def files_below(folder: Path) -> Iterator[Path]:
    """Every file of a folder in a fixed order; of a file, itself."""
    yield from sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else (folder,)
