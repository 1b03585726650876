"""`vcl build` as people type it, on a tiny system: plans, profiles, what is said when it fails."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from a_vcl import vcl_here
from fix_builds import TinyBuilds

from vcl_provision.images.builder import write_profile
from vcl_provision.images.repository.loose import verify_loose

Vcl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vcl(tiny: TinyBuilds) -> Vcl:
    """Runs `vcl build` on the tiny profile, or what is said, with this test's cache."""
    write_profile(tiny.spec(), tiny.folder / "tiny.yaml")

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return vcl_here(words, VCL_CACHE=str(tiny.folder / "vcl"), **environment)

    return run


def test_a_dry_run_says_the_plan_and_does_nothing(vcl: Vcl, tiny: TinyBuilds) -> None:
    said = vcl("build", f"{tiny.folder}/tiny.yaml", "--dry-run", "--into", str(tiny.folder / "out"))
    assert said.returncode == 0, said.stderr
    for word in ("storage", "base system", "configuration", "conversion", "deployment", "tiny-base"):
        assert word in said.stdout
    assert not (tiny.folder / "vcl").exists()
    assert not (tiny.folder / "out").exists()


def test_a_build_says_its_stages_and_where_the_image_is(vcl: Vcl, tiny: TinyBuilds) -> None:
    target = tiny.folder / "out"
    ran = vcl("build", f"{tiny.folder}/tiny.yaml", "--into", str(target), "--json")
    told = json.loads(ran.stdout)
    assert list(told["seconds"]) == ["storage", "base system", "configuration", "conversion", "deployment"]
    assert told["folder"] == str(target)
    verify_loose(target)
    again = vcl("build", f"{tiny.folder}/tiny.yaml", "--dry-run", "--json", "--into", str(target))
    cached = {stage["name"]: stage["cached"] for stage in json.loads(again.stdout)["stages"]}
    assert (cached["base system"], cached["configuration"]) == (True, True)
    refused = vcl("build", f"{tiny.folder}/tiny.yaml", "--into", str(target))
    assert refused.returncode == 1
    assert "is there already" in refused.stderr


def test_profiles_are_listed_for_people_and_for_programs() -> None:
    rows = json.loads(vcl_here(["build", "list", "--json"]).stdout)
    abouts = {row["profile"]: row["about"] for row in rows}
    assert {"minimal", "server", "desktop", "developer", "build-test"} <= abouts.keys()
    assert all(abouts.values())
    assert abouts["minimal"][:20] in vcl_here(["build", "list"]).stdout


def test_a_command_line_is_saved_as_a_profile(vcl: Vcl, tiny: TinyBuilds) -> None:
    saved = str(tiny.folder / "saved.yaml")
    words = ("--hostname", "web1", "--root-password", "env:PW", "--dry-run")
    first = vcl("build", f"{tiny.folder}/tiny.yaml", *words, "--save-profile", saved, "--json", PW="not in there")
    assert first.returncode == 0, first.stderr
    assert "not in there" not in Path(saved).read_text()
    again = vcl("build", saved, "--dry-run", "--json", PW="not in there")
    plans = [json.loads(ran.stdout)["stages"] for ran in (first, again)]
    assert [stage["digest"] for stage in plans[0]] == [stage["digest"] for stage in plans[1]]


def test_all_that_is_wrong_is_said_with_what_to_do(vcl: Vcl, tiny: TinyBuilds) -> None:
    ran = vcl("build", f"{tiny.folder}/tiny.yaml", "--hostname", "-x", "--ip", "1.2.3.4", "--password", "env:X")
    assert ran.returncode == 1
    assert "need --user" in ran.stderr
    ran = vcl("build", f"{tiny.folder}/tiny.yaml", "--hostname", "-x", "--ip", "1.2.3.4")
    assert "cannot be a host name" in ran.stderr
    assert "is no address with its prefix length" in ran.stderr


def test_a_script_that_fails_ends_the_build_with_what_it_said_and_a_log(vcl: Vcl, tiny: TinyBuilds) -> None:
    script = tiny.script("broken", "echo several lines; echo of trouble >&2; exit 7")
    ran = vcl("build", f"{tiny.folder}/tiny.yaml", "--script", script, "--into", str(tiny.folder / "out"))
    assert ran.returncode == 1
    assert "status 7: of trouble" in ran.stderr
    log = (tiny.folder / "vcl/builder/logs/out.log").read_text()
    assert "several lines" in log
    assert str(tiny.folder / "vcl/builder/logs/out.log") in ran.stderr


def test_a_password_is_never_typed_into_a_command(vcl: Vcl, tiny: TinyBuilds) -> None:
    ran = vcl("build", f"{tiny.folder}/tiny.yaml", "--user", "a", "--password", "secret")
    assert ran.returncode == 1
    assert "it is never in a profile" in ran.stderr
