"""What stages have made, by the digest of what they were made from: whole, or not there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vcl_provision.channels.patience import Patience

_ENTRY = re.compile(r"\.?(?:iso|base|guest|disks)-[0-9a-f]+(?:\.making)?")
_UNUSED = 30 * 86400.0
"""Seconds after which what nobody has used is removed."""


class Cache:
    """A folder of folders, `STAGE-DIGEST` each, and packages that were loaded once. It holds secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archives = folder / "archives"

    def prepare(self) -> None:
        """Makes it. Looking into one that is not there needs none."""
        self.archives.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    @property
    def salt(self) -> str:
        """A random text of this cache's own, made once."""
        file = self.folder / ".salt"
        if not file.exists():
            self.prepare()
            made = self.folder / f".salt.{secrets.token_hex(4)}"
            made.write_text(secrets.token_hex(16), encoding="ascii")
            with suppress(FileExistsError):
                os.link(made, file)
            made.unlink()
        return file.read_text(encoding="ascii")

    def path(self, stage: str, digest: str) -> Path:
        """Where the result of a stage lies, or will."""
        return self.folder / f"{stage}-{digest[:24]}"

    def has(self, stage: str, digest: str, *, max_age: float = float("inf")) -> bool:
        """Is it there, not older than so many seconds?"""
        entry = self.path(stage, digest)
        return (entry / ".born").exists() and time.time() - _born(entry) <= max_age

    def age(self, stage: str, digest: str) -> float:
        """Seconds since it was made."""
        return time.time() - _born(self.path(stage, digest))

    @contextmanager
    def slot(self, limit: int, patience: Patience) -> Generator[None]:
        """One of so many at a time."""
        with ExitStack() as files:
            slots = [files.enter_context((self.folder / f".slot-{number}.lock").open("w")) for number in range(limit)]
            patience.until(lambda: any(_locked(slot.fileno()) for slot in slots), f"one of {limit} builds to end")
            yield

    @contextmanager
    def locked(self, stage: str, digest: str, patience: Patience) -> Generator[None]:
        """One at a time; the kernel lets go of the lock when its holder dies, however it dies."""
        lock = self.folder / f".{self.path(stage, digest).name}.lock"
        with lock.open("w") as file:
            patience.until(lambda: _locked(file.fileno()), f"another build that makes {self.path(stage, digest).name}")
            yield

    def make(self, stage: str, digest: str, fill: Callable[[Path], None], remove: Callable[[Path], None]) -> Path:
        """Has an empty folder filled, then gives it its name. Under its lock; `remove` removes any owner's."""
        entry = self.path(stage, digest)
        work = entry.with_name(f".{entry.name}.making")
        for old in (work, entry):
            remove(old)
        work.mkdir()
        try:
            fill(work)
            (work / ".born").touch()
            work.rename(entry)
        except BaseException:
            remove(work)
            raise
        return entry

    def used(self, stage: str, digest: str) -> Path:
        """Its path; marks it as still wanted."""
        entry = self.path(stage, digest)
        os.utime(entry)
        return entry

    def forget_unused(self, remove: Callable[[Path], None], *, now: float) -> None:
        """Removes what was not used for a month, and what killed builds left long ago."""
        for entry in self.folder.iterdir():
            if _ENTRY.fullmatch(entry.name) and now - entry.stat().st_mtime > _UNUSED:
                remove(entry)


def remove_tree(folder: Path) -> None:
    """Nothing is mounted in it here: builds mount in namespaces of their own."""
    if folder.is_symlink() or folder.exists():
        shutil.rmtree(folder)


def digest_of(*parts: object, files: Iterable[Path] = ()) -> str:
    """Of values (as JSON) and of files' names and contents, in this order."""
    whole = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for path in files:
        whole.update(b"\0" + path.name.encode() + b"\0" + str(path.stat().st_mode & 0o777).encode() + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _born(entry: Path) -> float:
    try:
        return (entry / ".born").stat().st_mtime
    except OSError:
        return 0.0


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
