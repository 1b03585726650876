"""A Debian guest's root folder: packages by mmdebstrap, then what makes it ours. Needs root, mounts nothing here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.recipes import GUEST_TREES, ROOT_LABEL, Recipe
from vcl_provision.model.faults import Refused

_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"  # else apt takes usrmerge, and with it all of Perl
_REACHING_THE_ARCHIVE = re.compile(r"Acquire::(?:https?::|Retries|Check-|Max-FutureTime)")
_OF_THE_BUILD = (
    "etc/apt/apt.conf.d/99mmdebstrap",  # may hold the host's proxy
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/resolv.conf",  # the host's
    "etc/ssh/ssh_host_*",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/log/*.log",
    "var/log/apt/*",
    "var/cache/apt/*.bin",
    "var/cache/debconf/*-old",
)


def make_root(recipe: Recipe, folder: Path, *, channel: Channel, patience: Patience) -> Path:
    """Fills `folder/root` and returns it. Packages come from where apt on this host takes Debian from, by its proxy."""
    root, options = folder / "root", folder / "apt.conf"
    sources = debian_sources(recipe.suite, channel=channel, patience=patience)
    options.write_text(_apt_options(channel, patience), encoding="utf-8")
    argv = [
        *("env", "INITRD=No"),  # no first ram disk before our settings for it are there
        *("mmdebstrap", "--mode=root", f"--variant={recipe.variant}", f"--hook-dir={_MERGED_USR}"),
        f"--aptopt={options}",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.left_out),
        f"--include={','.join(recipe.packages)}",
        *(recipe.suite, str(root), "-"),
    ]
    channel.run(argv, patience=patience, stdin="".join(f"{line}\n" for line in sources).encode())
    return root


def finish_root(recipe: Recipe, root: Path, *, channel: Channel, patience: Patience) -> None:
    """Lays our files in, takes the build's traces and every identity out, sets units on and off."""
    for tree in recipe.trees:
        lay_tree(GUEST_TREES / tree, root)
    for pattern in _OF_THE_BUILD:
        for path in root.glob(pattern):
            path.unlink()
    (root / "etc/hostname").write_text(recipe.name + "\n", encoding="utf-8")
    options = "defaults" if "^has_journal" in recipe.filesystem else "errors=remount-ro"
    (root / "etc/fstab").write_text(f"LABEL={ROOT_LABEL} / ext4 {options} 0 1\n", encoding="utf-8")
    if recipe.units_on:
        _finish_systemd(recipe, root, channel, patience)
    else:
        (root / "usr/sbin/init").symlink_to("../bin/busybox")


def debian_sources(suite: str, *, channel: Channel, patience: Patience) -> Sequence[str]:
    """Lines of sources.list for a Debian suite with its updates and security fixes: those that apt here uses.

    apt is asked, so that every way to write its sources counts. Raises Refused if it knows no such archive.
    """
    columns = "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    argv = ("apt-get", "indextargets", "--format", columns, "Created-By: Packages")
    known = channel.run(argv, patience=patience, changes=False).stdout
    wanted = [f"Debian|{name}|main|" for name in (suite, f"{suite}-updates", f"{suite}-security")]
    lines = {line.rpartition("|")[2] for line in known.splitlines() if line.startswith(tuple(wanted))}
    if not any(line.split()[2] == suite for line in lines):
        hint = "run `apt-get update`, or add Debian's archive to /etc/apt/sources.list.d"
        raise Refused(f"apt on this host knows no Debian {suite}", hint)
    return sorted(lines)


def lay_tree(tree: Path, root: Path) -> None:
    """Copies files to their places; what begins with `#!` becomes a program, whatever the package's installer did."""
    for source in sorted(path for path in tree.rglob("*") if path.is_file()):
        target = root / source.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = source.read_bytes()
        target.write_bytes(content)
        target.chmod(0o755 if content.startswith(b"#!") else 0o644)


def _apt_options(channel: Channel, patience: Patience) -> str:
    """What this host's apt needs to reach its archive: proxies, and how strict it is about dates."""
    known = channel.run(("apt-config", "dump"), patience=patience, changes=False).stdout
    lines = [line for line in known.splitlines() if _REACHING_THE_ARCHIVE.match(line)]
    return "\n".join(['APT::Install-Recommends "false";', *lines]) + "\n"


def _finish_systemd(recipe: Recipe, root: Path, channel: Channel, patience: Patience) -> None:
    (root / "etc/machine-id").write_bytes(b"")  # made at each clone's first boot
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    chroot = ("chroot", str(root))
    channel.run((*chroot, "systemctl", "disable", *recipe.units_off), patience=patience)
    channel.run((*chroot, "systemctl", "enable", *recipe.units_on), patience=patience)
    channel.run((*chroot, "systemctl", "mask", *recipe.units_masked), patience=patience)
    # Caches made from /usr (ld.so, hwdb, journal catalogue) are fresh: without these, each clone makes them again.
    for folder in ("etc", "var"):
        stamp = root / folder / ".updated"
        stamp.touch()
        shutil.copystat(root / "usr", stamp)
