"""A disk written as streamOptimized VMDK where it belongs: into a file that goes on before it and after it."""

from __future__ import annotations

import shutil
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.formats import qemu_img
from vcl_provision.images.formats.identity import identify
from vcl_provision.images.formats.progress import Progress
from vcl_provision.images.formats.words import DiskFormat, Place, VmdkVariant

_EMPTY = 64 << 20


def stream_into(
    target: Path,
    offset: int,
    source: Place,
    source_format: DiskFormat,
    *,
    name: str,
    virtual_bytes: int,
    adapter: str,
    identity: str = "",
    channel: Channel,
    patience: Patience,
    progress: Progress | None = None,
) -> int:
    """Writes the disk at the end of `target`, which ends before `offset`, and returns how many bytes it took.

    `name` is what the disk will be called, which the format keeps; `identity` as for `disks.convert`. The source must
    stand alone. QEMU cannot make an image inside a file but can fill one there: an empty one is made beside and laid in
    first, some hundred KiB.
    """
    empty = target.with_name(name)
    options = f"subformat={VmdkVariant.STREAM},adapter_type={adapter}"
    making = ["create", "-q", "-f", DiskFormat.VMDK.value, "-o", options, str(empty), str(virtual_bytes)]
    room = qemu_img.most_written(virtual_bytes) // 100 + _EMPTY
    try:
        qemu_img.run(channel, making, about=target, patience=patience, writes=room)
        with target.open("r+b") as file, empty.open("rb") as header:
            file.truncate(offset)
            file.seek(offset)
            shutil.copyfileobj(header, file)
    finally:
        empty.unlink(missing_ok=True)
    within = f"driver=vmdk,file.driver=raw,file.offset={offset},file.file.driver=file,file.file.filename="
    onto = within + str(target.absolute()).replace(",", ",,")
    qemu_img.fill(
        channel,
        ["-n", "--target-is-zero", "--target-image-opts", qemu_img.node(source, source_format), onto],
        about=target,
        patience=patience,
        virtual_bytes=virtual_bytes,
        offset=offset,
        progress=progress,
    )
    if identity:
        identify(target, DiskFormat.VMDK, f"{identity} {name}", offset=offset)
    return target.stat().st_size - offset
