"""The units in conf/ are what systemd understands, and vcld's fits the settings."""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from vcl_provision.daemon.settings import Settings

CONF = Path(__file__).parents[2] / "conf"
UNIT = CONF / "vcld.service"


@pytest.mark.parametrize(("name", "program"), [("vcld.service", "vcld"), ("vcl-builder.service", "vcl")])
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, name: str, program: str) -> None:
    verify = shutil.which("systemd-analyze")
    assert verify, "systemd-analyze is missing: apt-get install systemd"
    unit, text = tmp_path / name, (CONF / name).read_text()
    assert f"ExecStart=/opt/vcl-provision/bin/{program} " in text
    unit.write_text(text.replace(f"/opt/vcl-provision/bin/{program} ", f"{sys.executable} "))
    said = subprocess.run([verify, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [line for line in said.stderr.splitlines() if name in line] == []


def test_a_stop_leaves_time_to_drain() -> None:
    assert int(_service()["TimeoutStopSec"].removesuffix("s")) > Settings().work.drain


def test_vcld_alone_hears_of_the_stop_and_systemd_of_vcld() -> None:
    assert (_service()["Type"], _service()["KillMode"]) == ("notify", "mixed")


def _service() -> dict[str, str]:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - how configparser documents it
    unit.read(UNIT)
    return dict(unit["Service"])
