"""The machine that was measured on: without it no figure means anything."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg


def describe() -> Mapping[str, str]:
    """What bears on the figures, for people."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()}, psycopg {psycopg.__version__}",
        "KVM": _kvm(),
        "load average": ", ".join(f"{load:.2f}" for load in psutil.getloadavg()) + " when the benchmarks began",
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE)
    return found[1] if found else platform.machine()


def _kvm() -> str:
    """Whether it is there; whether guests run under it is found out by the libvirt module, by a boot."""
    return "/dev/kvm can be opened" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "no /dev/kvm: software emulation"
