"""Images: what building a minimal one costs beside the packages' own installation, and what comes of it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fix_guests import BareGuest

from benchmarks.table import Row
from vcl_provision.channels.keys import new_host_key, new_key
from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder import Built, Cache, Plan, build, load_profile, plan_build
from vcl_provision.images.builder.cache import remove_tree
from vcl_provision.images.builder.sources import host_sources
from vcl_provision.images.firstboot import FirstBoot

ROUNDS = 2
"""Of each, one after the other, so that a machine that slows down slows both; the faster one counts."""

LONG = 3600.0
BOOT = 300.0


def run() -> list[Row]:
    """Needs root, the programs of the builder, QEMU, and a way to packages. Some four minutes."""
    with tempfile.TemporaryDirectory(prefix="vcl-bench-") as name:
        folder = Path(name)
        cache = Cache(folder / "cache")
        plan = plan_build(load_profile("minimal"), cache)
        built = _build(plan, folder, cache)  # loads the packages
        ours, theirs = list[float](), list[float]()
        for _ in range(ROUNDS):
            theirs.append(_plain(plan, folder, cache))
            _forget_stages(cache)
            began = time.monotonic()
            built = _build(plan, folder, cache)
            ours.append(time.monotonic() - began)
        again = time.monotonic()
        _build(plan, folder, cache)
        rows = _rows(built, min(ours), min(theirs), time.monotonic() - again)
        return [*rows, _to_ssh(built.folder, folder / "guest")]


def _rows(built: Built, ours: float, theirs: float, again: float) -> Sequence[Row]:
    assert built.descriptor
    disk = built.descriptor.system_disk.blob.bytes
    return [
        Row("minimal image, built from a warm package cache", f"{ours:.1f} s"),
        Row("  plain mmdebstrap of the same packages", f"{theirs:.1f} s: {ours / theirs:.2f} times that", "1.3"),
        Row("  the same again, stages from the cache", f"{again:.1f} s"),
        Row("  its disk (qcow2)", f"{disk / 1e6:.0f} MB"),
    ]


def _build(plan: Plan, folder: Path, cache: Cache) -> Built:
    return build(plan, folder / "minimal", patience=Patience(LONG), cache=cache.folder, overwrite=True)


def _forget_stages(cache: Cache) -> None:
    for entry in cache.folder.iterdir():
        if entry.is_dir() and entry != cache.archives:
            remove_tree(entry)


def _plain(plan: Plan, folder: Path, cache: Cache) -> float:
    """Seconds for what anybody would type, with the same packages at hand."""
    archive = folder / "plain.tar"
    sources = host_sources("Debian", plan.spec.suite, ["main"], channel=LocalChannel(), patience=Patience(60))
    argv = (
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=download/empty,essential/unlink"),
        '--setup-hook=mkdir -p "$1"/var/cache/apt/archives',
        f'--setup-hook=cp {cache.archives}/*.deb "$1"/var/cache/apt/archives/',
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        '--aptopt=APT::Install-Recommends "false"',
        f"--include={','.join(plan.layers[0].packages)}",
        *(plan.spec.suite, str(archive), "-"),
    )
    text = "".join(f"{line}\n" for line in sources)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(folder)}
    began = time.monotonic()
    subprocess.run(argv, input=text, text=True, check=True, capture_output=True, env=environment)
    took = time.monotonic() - began
    archive.unlink()
    return took


def _to_ssh(image: Path, folder: Path) -> Row:
    management, host = new_key(), new_host_key()
    told = FirstBoot(
        instance="bench",
        hostname="bench",
        host_key=host.public,
        host_key_private=host.private,
        management_keys=[management.public],
    )
    with BareGuest(image, folder, told, management) as guest:
        began = time.monotonic()
        guest.start()
        guest.wait_until_usable(Patience(BOOT))
        return Row("  from power on to a command by ssh, software emulation", f"{time.monotonic() - began:.1f} s")
