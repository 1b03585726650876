"""A first ram disk for virtio machines: busybox, a few modules, one script. Written here, so the host needs no cpio.

The archive format is "newc": https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcl_provision.images.builder.trees import GUEST_TREES
from vcl_provision.model.faults import Refused

WANTED = ("virtio_pci", "virtio_mmio", "virtio_blk")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of an archive: `mode` with its type, `device` is (major, minor) of a node."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def busybox_initrd(
    root: Path, kernel_version: str, *, root_type: str = "ext4", more_modules: Sequence[str] = ()
) -> bytes:
    """The ram disk for a guest's own kernel, from its own busybox and modules: finds a file system of `root_type`.

    Raises Refused if the kernel has not a module that we want.
    """
    folders = [Entry(name=name, mode=stat.S_IFDIR | 0o755) for name in ("bin", "dev", "mnt", "modules", "proc")]
    paths = _in_loading_order(root / "usr/lib/modules" / kernel_version, (*WANTED, *more_modules))
    modules = [
        Entry(name=f"modules/{number:02}-{path.name}", mode=stat.S_IFREG | 0o644, content=path.read_bytes())
        for number, path in enumerate(paths)
    ]
    busybox = (root / "usr/bin/busybox").read_bytes()
    init = (GUEST_TREES / "initrd/init").read_bytes()
    return cpio(
        [
            *folders,
            # Before devtmpfs is mounted the kernel opens this for init's three streams.
            Entry(name="dev/console", mode=stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry(name="bin/busybox", mode=stat.S_IFREG | 0o755, content=busybox),
            *modules,
            Entry(name="root-type", mode=stat.S_IFREG | 0o644, content=f"{root_type}\n".encode()),
            Entry(name="init", mode=stat.S_IFREG | 0o755, content=init),
        ]
    )


def cpio(entries: Sequence[Entry]) -> bytes:
    """An archive of the format "newc", owned by root, without times: the same entries give the same bytes."""
    whole = b"".join(_record(number, entry) for number, entry in enumerate(entries, start=1))
    return whole + _record(0, Entry(name="TRAILER!!!", mode=0))


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    header = (number, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    return _padded(b"070701" + b"".join(b"%08X" % value for value in header) + name) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _in_loading_order(modules: Path, wanted: Sequence[str]) -> Iterator[Path]:
    """Paths of the wanted modules and all that they need, each after what it needs."""
    needs = _dependencies((modules / "modules.dep").read_text(encoding="utf-8"))
    builtin = {_module_name(line) for line in (modules / "modules.builtin").read_text(encoding="utf-8").split()}
    done: set[str] = set()
    for name in wanted:
        if name in builtin:
            continue
        if name not in needs:
            raise Refused(f"the kernel {modules.name} has no module {name}", "take a kernel that is meant for guests")
        for path in needs[name]:
            if path not in done:
                done.add(path)
                yield modules / path


def _dependencies(text: str) -> dict[str, Sequence[str]]:
    """Module name to paths: those that it needs, last needed first in the file, then itself."""
    found: dict[str, Sequence[str]] = {}
    for line in text.splitlines():
        path, _, needs = line.partition(":")
        found[_module_name(path)] = [*reversed(needs.split()), path]
    return found


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")
