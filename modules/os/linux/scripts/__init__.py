"""The scripts that run in guests: each put together from the files of this folder, and sent whole."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent

PARTS = {
    "ready": ("ready",),
    "post_load": ("gate", "post_load"),
    "prepare": ("ready", "gate", "post_load"),
    "add_user": ("accounts", "add_user"),
    "grant_access": ("gate", "grant_access"),
    "admit": ("accounts", "add_user", "gate", "grant_access"),
    "access": ("gate", "access"),
    "is_connected": ("gate", "is_connected"),
    "notify_user": ("notify_user",),
    "sanitize": ("gate", "accounts", "sanitize"),
    "delete_user": ("accounts", "delete_user"),
    "pre_capture": ("gate", "accounts", "pre_capture"),
    "boot": ("gate", "boot"),
    "reboot": ("reboot",),
    "shutdown": ("shutdown",),
}
"""Which files make up a script, after `common`."""


@cache
def script(name: str) -> str:
    """The text that is run there, whole."""
    return "\n".join((FOLDER / f"{part}.sh").read_text() for part in ("common", *PARTS[name]))
