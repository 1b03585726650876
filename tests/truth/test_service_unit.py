"""conf/vcld.service is what systemd understands, and fits the settings."""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from vcl_provision.daemon.settings import Settings

UNIT = Path(__file__).parents[2] / "conf" / "vcld.service"


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    assert verify, "systemd-analyze is missing: apt-get install systemd"
    unit = tmp_path / "vcld.service"
    unit.write_text(UNIT.read_text().replace("/opt/vcl-provision/bin/vcld", sys.executable))
    said = subprocess.run([verify, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [line for line in said.stderr.splitlines() if "vcld.service" in line] == []


def test_a_stop_leaves_time_to_drain() -> None:
    assert int(_service()["TimeoutStopSec"].removesuffix("s")) > Settings().work.drain


def test_vcld_alone_hears_of_the_stop_and_systemd_of_vcld() -> None:
    assert (_service()["Type"], _service()["KillMode"]) == ("notify", "mixed")


def _service() -> dict[str, str]:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - how configparser documents it
    unit.read(UNIT)
    return dict(unit["Service"])
