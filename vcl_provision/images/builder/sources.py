"""Where apt takes packages from while it builds, and what the guest's own sources.list says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.builder.spec import BuildSpec
from vcl_provision.model.faults import Refused


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Lines of sources.list: `build` for the build, `guest` for the guest."""

    build: Sequence[str]
    guest: Sequence[str]


def host_sources(
    origin: str, suite: str, components: Sequence[str], *, channel: Channel, patience: Patience
) -> Sequence[str]:
    """Lines of sources.list for a suite with its updates and security fixes: those that apt here uses.

    apt is asked, so that every way to write its sources counts. Raises Refused if it knows no such archive.
    """
    columns = "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    argv = ("apt-get", "indextargets", "--format", columns, "Created-By: Packages")
    known = channel.run(argv, patience=patience, changes=False).stdout
    names = (suite, f"{suite}-updates", f"{suite}-security")
    wanted = tuple(f"{origin}|{name}|{component}|" for name in names for component in components)
    lines = {line.rpartition("|")[2] for line in known.splitlines() if line.startswith(wanted)}
    if not any(line.split()[2] == suite for line in lines):
        hint = f"run `apt-get update`, add {origin}'s archive to /etc/apt/sources.list.d, or give --mirror"
        raise Refused(f"apt on this host knows no {origin} {suite}", hint)
    return sorted(lines)


def sources_of(
    spec: BuildSpec, origin: str, suites: Sequence[str], tree: Path | None, *, channel: Channel, patience: Patience
) -> Sources:
    """`suites` are those that one mirror of the distribution has; `tree` where a local tree or an ISO lies now."""
    components = spec.source.components
    if tree is not None:
        # `copy:`, since a chroot does not see where the tree lies; trusted, since whoever laid it here is.
        build: Sequence[str] = [f"deb [trusted=yes] copy:{tree} {spec.suite} {' '.join(components)}"]
        kept: Sequence[str] = ()
    elif spec.source.mirrors:
        build = [line for mirror in spec.source.mirrors for line in _lines(mirror, suites, components)]
        kept = build
    else:
        build = host_sources(origin, spec.suite, components, channel=channel, patience=patience)
        kept = build
    guest = [line for mirror in spec.source.guest for line in _lines(mirror, suites, components)]
    return Sources(build=build, guest=guest or kept)


def _lines(mirror: str, suites: Sequence[str], components: Sequence[str]) -> Sequence[str]:
    if mirror.startswith("deb "):
        return [mirror]
    return [f"deb {mirror} {suite} {' '.join(components)}" for suite in suites]
