"""A part of a file or device as a block device of its own. Lasts as long as this process has it open.

Linux 5.8: LOOP_CONFIGURE sets up and marks for clearing in one step, so there is no instant in which a kill leaves one.
The structures are those of include/uapi/linux/loop.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.model.faults import Refused

CONTROL = Path("/dev/loop-control")
_CONFIGURE, _GET_FREE = 0x4C0A, 0x4C82
_AUTOCLEAR = 4
_INFO = struct.Struct("=5Q4I64s64s32s2Q")  # struct loop_info64
_CONFIG = struct.Struct(f"=2I{_INFO.size}s8Q")  # struct loop_config


@contextmanager
def loop_device(path: Path, *, start: int, size: int, patience: Patience) -> Generator[Path]:
    """The node of a loop device over `size` bytes from `start` of the file or device.

    Gone when left, or when this process ends in whatever way. Raises Refused where there are no loop devices.
    """
    backing = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        node, opened = patience.until(lambda: _configured(backing, start, size), "a free loop device")
    finally:
        os.close(backing)
    try:
        yield node
    finally:
        os.close(opened)


def _configured(backing: int, start: int, size: int) -> tuple[Path, int] | None:
    """None if another one was faster to take the number that was free."""
    node = Path(f"/dev/loop{_free_number()}")
    try:
        opened = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        number = node.name.removeprefix("loop")
        raise Refused(f"the free loop device {node} has no node", f"mknod {node} b 7 {number}") from None
    info = _INFO.pack(0, 0, 0, start, size, 0, 0, 0, _AUTOCLEAR, b"", b"", b"", 0, 0)
    try:
        fcntl.ioctl(opened, _CONFIGURE, _CONFIG.pack(backing, 512, info, *[0] * 8))
    except OSError as no:
        os.close(opened)
        if no.errno == errno.EBUSY:
            return None
        raise Refused(f"{node} cannot be set up: {no.strerror}", "loop devices need root, and Linux 5.8") from no
    return node, opened


def _free_number() -> int:
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        hint = "load the module: modprobe loop; in a container, hand it in from the host. ext4 alone needs none"
        raise Refused(f"this machine has no loop devices ({CONTROL} is missing)", hint) from None
    except PermissionError:
        raise Refused(f"{CONTROL} may not be opened", "loop devices need root; ext4 alone needs none") from None
    try:
        return fcntl.ioctl(control, _GET_FREE)
    finally:
        os.close(control)
