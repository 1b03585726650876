"""qemu-img, run so that a hostile image can do no more than be refused.

It is told the format of every disk and never guesses one; it opens plain files and block devices only, nothing over a
network; its memory, processor time and the size of what it writes are limited by the kernel.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from vcl_provision.channels.command import NOT_FOUND, last_line
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.formats.progress import Progress, following
from vcl_provision.images.formats.words import DiskFormat, Place, Slice
from vcl_provision.model.faults import CommandFailed, ProvisionError, Ran, Refused, Transient

MEMORY = 4 << 30
"""Bytes of address space. Sixteen writers at once took 1.5 GiB of it, 24 MiB of them real memory (measured)."""

ANSWER = 1 << 20
"""Bytes that a mere question may write."""

THREADS = 4
"""Seconds of processor time allowed for each second of patience: compression keeps more than one processor busy."""

_SECTOR = 512
_SLACK = 128 << 20
_BACKED = {DiskFormat.QCOW2, DiskFormat.VMDK}


class _Meaning(NamedTuple):
    said: str
    means: str
    hint: str


_FULL = ("does not fit: its file system is full", "make room there, or write to another file system")
_FOREIGN = ("is not of the format that it is said to be", "name the format that it really has")
_DAMAGED = ("is damaged", "fetch it again from where it came from")
_MEANINGS = (
    _Meaning("No space left on device", *_FULL),
    _Meaning("error_setv", *_FULL),  # QEMU 7.2 aborts there when a streamOptimized vmdk does not fit
    _Meaning("File too large", "would grow past its limit", "it is larger than it says, or damaged"),
    _Meaning(
        "error while writing", "cannot be written: its file system is full, or fails", "make room there"
    ),  # vmdk's
    _Meaning("No such file", "is not there", "check the path"),
    _Meaning("Permission denied", "may not be read or written", "check owner and mode of the file and of its folders"),
    _Meaning("not in qcow2 format", *_FOREIGN),
    _Meaning("invalid VMDK", *_FOREIGN),
    _Meaning("needs to be replayed", "was not closed cleanly", "start its machine once, and shut it down"),
    _Meaning("Invalid argument", *_DAMAGED),
    _Meaning("Input/output error", *_DAMAGED),
    _Meaning("ould not write to allocated cluster", *_DAMAGED),
    _Meaning("orrupt", *_DAMAGED),
)


def node(place: Place, disk_format: DiskFormat) -> str:
    """How qemu-img is told of a disk: format and protocol by name, and nothing beneath it.

    Source: QEMU's documentation, "json:" file names and the options of the block drivers `file`, `host_device`, `raw`.
    """
    described: dict[str, object] = {"driver": disk_format.value, "file": _below(place)}
    if disk_format in _BACKED:
        described["backing"] = None
    return "json:" + json.dumps(described)


def run(
    channel: Channel,
    arguments: Sequence[str],
    *,
    about: Place,
    patience: Patience,
    writes: int = 0,
    accept: Sequence[int] = (0,),
    before: Sequence[str] = (),
) -> Ran:
    """Runs qemu-img; `writes` is how large a file it may make, in bytes, 0 for a mere question.

    `before` is a command that it is given to (see progress.following).

    Raises Refused with what is wrong with `about` in plain words, Transient while another process holds it, and what
    Channel.run raises.
    """
    limits = {
        "as": MEMORY,
        "fsize": writes or ANSWER,
        "cpu": math.ceil(patience.remaining * THREADS) + 1,
        "core": 0,
    }
    argv = [*before, "prlimit", *(f"--{name}={value}" for name, value in limits.items()), "qemu-img", *arguments]
    try:
        return channel.run(argv, patience=patience, changes=bool(writes), accept=accept)
    except CommandFailed as failed:
        raise _explained(failed, about) from failed


def fill(
    channel: Channel,
    arguments: Sequence[str],
    *,
    about: Place,
    patience: Patience,
    virtual_bytes: int,
    offset: int = 0,
    progress: Progress | None = None,
) -> None:
    """Runs `qemu-img convert` with these arguments, for a disk of so many bytes that begins at `offset` of its file."""
    shown = ["-p"] if progress else []
    with following(progress, virtual_bytes) as before:
        run(
            channel,
            ["convert", *shown, *arguments],
            about=about,
            patience=patience,
            writes=offset + most_written(virtual_bytes),
            before=before,
        )


def most_written(virtual_bytes: int) -> int:
    """What a disk of so many bytes takes at most, in any format: tables, and what compression does not shrink."""
    return virtual_bytes + virtual_bytes // 50 + _SLACK


def _below(place: Place) -> dict[str, object]:
    if isinstance(place, Slice):
        rounded = -(-place.bytes // _SECTOR) * _SECTOR  # tar fills up to whole sectors; QEMU reads nothing else
        return {"driver": "raw", "offset": place.offset, "size": rounded, "file": _below(place.path)}
    driver = "host_device" if place.is_block_device() else "file"
    return {"driver": driver, "filename": str(place.absolute())}


def _explained(failed: CommandFailed, about: Place) -> ProvisionError:
    said = failed.ran.stderr
    if failed.ran.status == NOT_FOUND or "failed to execute" in said:
        return Refused("qemu-img or prlimit is not installed", "apt install qemu-utils util-linux")
    if "Failed to get" in said and "lock" in said:
        return Transient(f"{about} is in use by another process", "a running machine, perhaps: shut it down first")
    for meaning in _MEANINGS:
        if meaning.said in said:
            return Refused(f"{about} {meaning.means} ({last_line(said)})", meaning.hint)
    return failed
