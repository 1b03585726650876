"""Files of our own that are laid into guests."""

from __future__ import annotations

from pathlib import Path

GUEST_TREES = Path(__file__).parents[1] / "guest"
