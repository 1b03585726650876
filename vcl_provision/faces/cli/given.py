"""What is said before the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Given:
    """The options before the command."""

    dsn: str = ""
    conf: Path | None = None
