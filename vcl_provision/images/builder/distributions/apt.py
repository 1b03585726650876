"""Packages by apt, into a tree or on top of one. mmdebstrap does the work: no service starts, nothing stays mounted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.images.builder.host import BuildHost
from vcl_provision.images.builder.sources import Sources
from vcl_provision.images.builder.spec import BuildSpec
from vcl_provision.model.faults import CommandFailed

TOOLS = {
    "apt-config": "apt",
    "apt-get": "apt",
    "chroot": "coreutils",
    "dpkg-query": "dpkg",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "tar": "tar",
    "unshare": "util-linux",
}
# Nodes in /dev are the kernel's business, and only root may make them; extended attributes hold capabilities.
UNPACK = ("tar", "-xp", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--exclude=./dev/*")
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"  # else apt takes usrmerge, and with it all of Perl
_REACHING_THE_ARCHIVE = re.compile(r"Acquire::(?:https?::|Retries|Check-|Max-FutureTime)")
_COMPLAINTS = ("E: ", "dpkg: error", " E: ", "W: Failed to fetch")
_HINT = "can this host reach the archive, by which proxy? does the suite have those packages? `apt-get update` tells"
_HOSTS_ARCHIVES = "/var/cache/apt/archives"


@dataclass(frozen=True, kw_only=True)
class AptJob:
    """One run of mmdebstrap: `packages` of `sources` on top of `onto` (an archive), or a system of its own, `into`."""

    spec: BuildSpec
    sources: Sources
    packages: Sequence[str]
    onto: Path | None
    into: Path
    merged_usr: bool = True


def install_packages(job: AptJob, host: BuildHost) -> None:
    """Runs it. Packages that were loaded once are taken from the host's archives. Raises CommandFailed."""
    work = job.into.parent
    options = work / "apt.conf"
    options.write_text(apt_options(job.spec, host), encoding="utf-8")
    seeds = work / "debconf"
    seeds.write_text("".join(f"{line}\n" for line in job.spec.packages.debconf), encoding="utf-8")
    argv = [
        # mmdebstrap unpacks beside its result, where the archives can be linked instead of copied
        *("env", "INITRD=No", f"TMPDIR={work}", *_epoch(job.spec)),
        *("mmdebstrap", "--mode=root", "--format=tar", f"--architectures={job.spec.architecture}"),
        *("--dpkgopt=force-unsafe-io", f"--aptopt={options}"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in job.spec.packages.left_out),
        *_kind(job, seeds),
        *_archives(host.archives),
        *((f"--include={','.join(job.packages)}",) if job.packages else ()),
        *((f"--keyring={job.spec.source.keyring}",) if job.spec.source.keyring else ()),
        *("--skip=essential/unlink,download/empty", job.spec.suite, str(job.into), "-"),
    ]
    lines = "".join(f"{line}\n" for line in job.sources.build)
    try:
        host.run(*argv, stdin=lines.encode(), name="mmdebstrap")
    except CommandFailed as failed:
        raise CommandFailed(f"the packages could not be installed: {_cause(failed)}", _HINT, ran=failed.ran) from failed


def _cause(failed: CommandFailed) -> str:
    """What apt or dpkg complained of first; what mmdebstrap says last is that one of them failed."""
    complaints = [line.strip() for line in failed.ran.stderr.splitlines() if line.startswith(_COMPLAINTS)]
    return complaints[0] if complaints else failed.said


def _epoch(spec: BuildSpec) -> Sequence[str]:
    return () if spec.source_date_epoch is None else (f"SOURCE_DATE_EPOCH={spec.source_date_epoch}",)


def _kind(job: AptJob, seeds: Path) -> Iterator[str]:
    """A new system, or more packages in one. Debconf hears the answers before the first package asks."""
    answers = f'chroot "$1" debconf-set-selections < {seeds}'
    if job.onto is None:
        yield f"--variant={job.spec.variant}"
        if job.merged_usr:
            yield f"--hook-dir={_MERGED_USR}"
        if job.spec.packages.debconf:
            yield f"--essential-hook={answers}"
        return
    yield "--variant=custom"
    yield f'--setup-hook={" ".join(UNPACK)} -C "$1" -f {job.onto}'
    if job.spec.packages.debconf:
        yield f"--setup-hook={answers}"


def _archives(archives: Path) -> Iterator[str]:
    """Packages in and out by hard links: two builds that share them never wait for each other's apt."""
    inside = '"$1"/var/cache/apt/archives'
    link = "find {0} -maxdepth 1 -name '*.deb' -exec cp -ln -t {1} {{}} + 2>/dev/null || true"
    yield f"--setup-hook=mkdir -p {inside}"
    yield f"--setup-hook={link.format(archives, inside)}"
    yield f"--setup-hook={link.format(_HOSTS_ARCHIVES, inside)}"
    yield f"--customize-hook={link.format(inside, archives)}"
    yield f"--customize-hook=rm -f {inside}/*.deb"


def apt_options(spec: BuildSpec, host: BuildHost) -> str:
    """What apt needs to reach its archive: the spec's proxy or this host's, and how strict this host is about dates."""
    known = host.ask("apt-config", "dump")
    lines = [line for line in known.splitlines() if _REACHING_THE_ARCHIVE.match(line)]
    if spec.source.proxy:
        lines += [f'Acquire::{kind}::Proxy "{spec.source.proxy}";' for kind in ("http", "https")]
    return "\n".join(['APT::Install-Recommends "false";', 'Acquire::Languages "none";', *lines]) + "\n"
