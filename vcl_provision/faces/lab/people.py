"""Who uses a lab of one's own: whoever brought it up, and a demonstration user."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path

DEMO_USER = "alice"

_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")


def usual_user(environ: Mapping[str, str] = os.environ) -> str:
    """For whom a reservation is if nobody is named: whoever sits here; for root whoever became root, else the demo's user."""
    name = environ.get("SUDO_USER") or getpass.getuser()
    return name if name != "root" and _ACCOUNT.match(name) else DEMO_USER


def own_keys(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Public ssh keys of whoever sits here, as lines."""
    home = Path(f"~{environ['SUDO_USER']}").expanduser() if environ.get("SUDO_USER") else Path.home()
    lines: list[str] = []
    for file in sorted(home.glob(".ssh/id_*.pub")):
        lines += [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines
