"""A root folder with everything in it that is easily lost on the way to a disk."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path

ANYONE = 0xFFFFFFFF
CAPABLE = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw+ep, as `setcap` writes it."""
ACCESS = struct.pack("<I" + "HHI" * 5, 2, 1, 6, ANYONE, 2, 4, 33, 4, 4, ANYONE, 16, 4, ANYONE, 32, 0, ANYONE)
"""user::rw- user:33:r-- group::r-- mask::r-- other::---, as the kernel takes it: posix_acl_xattr.h."""
SPARSE = 8 << 20
MOMENT = 1_700_000_000
FOLDERS = ("boot/efi", "etc", "opt/tool", "srv", "tmp", "usr/bin", "var/log")


def fill_tree(root: Path, *, kernel: bool = True) -> Path:
    """Needs root. The same content whenever it is made; returns the folder."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "srv").chmod(0o2750)
    os.chown(root / "srv", 33, 33)
    _fill_files(root)
    os.mkfifo(root / "var/pipe", 0o640)
    os.mknod(root / "var/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "usr/bin/link").symlink_to("../../etc/hostname")
    (root / "usr/bin/nowhere").symlink_to("/not/there")
    os.setxattr(root / "opt/tool", "user.note", b"of a folder")
    if kernel:
        (root / "boot/vmlinuz-6.1.0-9").write_bytes(b"kernel")
        (root / "boot/initrd.img-6.1.0-9").write_bytes(b"ram disk")
    return root


def _fill_files(root: Path) -> None:
    files: Mapping[str, bytes] = {
        "etc/hostname": b"tree\n",
        "etc/shadow": b"root:*:1::::::\n",
        "opt/tool/run": b"#!/bin/sh\n",
        "srv/www": b"web\n",
        "usr/bin/ping": b"program",
        "usr/bin/sudo": b"program",
        "var/log/long": b"x" * 100_000,
        'var/log/name with spaces, \xc3\xa9 and "quotes"'.encode().decode("unicode_escape"): b"",
        "var/log/" + "n" * 255: b"",
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    (root / "etc/shadow").chmod(0o640)
    os.chown(root / "etc/shadow", 0, 42)
    (root / "usr/bin/sudo").chmod(0o4755)
    os.setxattr(root / "usr/bin/ping", "security.capability", CAPABLE)
    os.setxattr(root / "srv/www", "system.posix_acl_access", ACCESS)
    os.setxattr(root / "var/log", "system.posix_acl_default", ACCESS)
    os.link(root / "usr/bin/ping", root / "usr/bin/ping6")
    with (root / "var/sparse").open("wb") as sparse:
        sparse.seek(SPARSE)
        sparse.write(b"end")
    os.utime(root / "etc/hostname", (MOMENT - 5000, MOMENT - 5000))


def facts(root: Path) -> dict[str, object]:
    """What is known of every file and folder of a root, by its path, but for the number of its inode."""
    seen: dict[int, str] = {}
    found: dict[str, object] = {}
    for path in (root, *sorted(root.rglob("*"))):
        name, there = str(path.relative_to(root)), path.lstat()
        if name == "lost+found":
            continue
        first = seen.setdefault(there.st_ino, path.name)
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[name] = (
            oct(there.st_mode),
            (there.st_uid, there.st_gid),
            int(there.st_mtime),
            first if not path.is_dir() else "",
            path.readlink() if path.is_symlink() else content,
            there.st_rdev,
            {key: os.getxattr(path, key, follow_symlinks=False) for key in _attributes(path)},
        )
    return found


def _attributes(path: Path) -> list[str]:
    """xfs shows an access control list by a second name too."""
    return [key for key in os.listxattr(path, follow_symlinks=False) if not key.startswith("trusted.SGI_ACL_")]
