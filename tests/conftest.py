"""Fixtures that more than one folder of tests uses are plug-ins: fix_*.py beside this file."""

from __future__ import annotations

from pathlib import Path

pytest_plugins = sorted(file.stem for file in Path(__file__).parent.glob("fix_*.py"))
