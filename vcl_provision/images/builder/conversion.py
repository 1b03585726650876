"""From a guest's tree to disks, in the formats that are asked for, and what is handed to a machine beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.builder.disks.writing import write_disks
from vcl_provision.images.builder.host import BuildHost
from vcl_provision.images.builder.plan import Plan, identity_of
from vcl_provision.images.formats import disks as formats
from vcl_provision.images.formats.words import DiskFormat

Say = Callable[[str], None]
KERNEL, INITRD = "vmlinuz", "initrd.img"


def convert(plan: Plan, guest: Path, folder: Path, *, overwrite: bool, host: BuildHost, say: Say) -> None:
    """Fills a folder: `disk.FORMAT`, `disk2.FORMAT`, ...; kernel and first ram disk if they are handed over.

    Devices are written to as they are, and nothing is laid down for them.
    """
    spec, root, facts = plan.spec, guest / "root", read_facts(guest)
    if spec.boot is Loader.DIRECT and facts["kernel"]:
        _take(root / f"boot/vmlinuz-{facts['kernel']}", folder / KERNEL, host)
        if (root / f"boot/initrd.img-{facts['kernel']}").exists():
            _take(root / f"boot/initrd.img-{facts['kernel']}", folder / INITRD, host)
    raw = [folder / disk_name(number, "raw") for number in range(len(plan.layout.disks))]
    write_disks(
        plan.layout,
        root,
        spec.disks.devices or raw,
        seed=plan.guest,
        moment=int(str(facts["moment"])),
        loader=spec.boot,
        overwrite=overwrite,
        scratch=folder,
        channel=host.channel,
        patience=host.patience,
        say=say,
    )
    for name in ("packages.txt", "facts.json"):
        shutil.copyfile(guest / name, folder / name)
    if spec.disks.devices:
        return
    for disk in raw:
        for image_format in spec.output.formats:
            if image_format != "raw":
                say(f"converting {disk.stem} to {image_format}")
                _convert(disk, DiskFormat(image_format), identity_of(plan), host)
        if "raw" not in spec.output.formats:
            disk.unlink()


def _convert(disk: Path, image_format: DiskFormat, identity: str, host: BuildHost) -> None:
    formats.convert(
        disk,
        DiskFormat.RAW,
        disk.with_suffix(f".{image_format}"),
        image_format,
        identity=identity,
        channel=host.channel,
        patience=host.patience,
    )


def disk_name(number: int, image_format: str) -> str:
    """`disk.qcow2`, `disk2.qcow2`, ..."""
    return f"disk{number + 1 if number else ''}.{image_format}"


def read_facts(folder: Path) -> Mapping[str, object]:
    """What the configuration found out: `os`, `kernel` (its version, or empty), `moment`, `private_keys`."""
    return json.loads((folder / "facts.json").read_text(encoding="utf-8"))


def _take(source: Path, target: Path, host: BuildHost) -> None:
    """As root inside: a first ram disk is readable for root only."""
    host.run("cp", "--dereference", str(source), str(target))
    host.run("chmod", "644", str(target))
