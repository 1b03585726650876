"""The real `vcl`, run as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

VCL = Path(sys.executable).with_name("vcl")


def vcl_here(words: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs it and returns what came of it; `environment` is added to our own."""
    return subprocess.run(
        (VCL, *words), capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200", **environment}
    )
