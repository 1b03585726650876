"""What the lab costs: latency, throughput, memory, counts; measured on real parts, printed as a table."""

from __future__ import annotations

import sys
from pathlib import Path

TOP = Path(__file__).parents[1]
sys.path.append(str(TOP / "tests"))  # the benchmarks begin with the same small lab as the tests
