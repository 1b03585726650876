"""From a profile to a user logged in: built into the lab's repository, by hand or by a builder, and reserved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from a_vcl import VCL, vcl_here
from fix_guests import PROJECT
from fix_real_lab import RealLab

from vcl_provision.channels.patience import Patience
from vcl_provision.store import builds

CACHE = str(Path(os.environ.get("VCL_CACHE", PROJECT / ".cache")) / "images")
"""The tests' own guests are built with it, so that what follows costs only what is new."""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """The small guest, with a file of ours in it."""
    (tmp_path / "note").write_text("built for this test\n")
    path = tmp_path / "fresh.yaml"
    path.write_text("extends: small\nfiles:\n- {source: note, target: /etc/note}\n")
    return path


@pytest.fixture
def builder(real_lab: RealLab, dsn: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`vcl builds run`, ended afterwards."""
    settings = tmp_path / "builder.toml"
    settings.write_text(f'[node]\nname = "builder"\n[database]\ndsn = {json.dumps(dsn)}\n')
    with (tmp_path / "builder.log").open("wb") as log:
        argv = [VCL, "--conf", settings, "builds", "run"]
        process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "VCL_CACHE": CACHE})
    yield process
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def reserved_and_logged_in(lab: RealLab, dsn: str, image: str) -> str:
    """What alice reads on a machine with the image."""
    lab.node.start()
    asked = vcl_here(("reserve", image, "--user", "alice", "--json"), VCL_DSN=dsn)
    assert asked.returncode == 0, asked.stderr
    number = json.loads(asked.stdout)["id"]
    lab.conn.execute("UPDATE request SET remote_address = %s WHERE id = %s", [lab.home, number])
    lab.until_open(number)
    said = lab.ssh("cat /etc/note; sudo -n id -un")
    lab.end(number)
    lab.until(lambda: lab.status(number)[0] == "complete", "the machine taken back")
    return said.stdout


def test_an_image_is_built_into_the_store_and_reserved(real_lab: RealLab, dsn: str, profile: Path) -> None:
    words = ("build", str(profile), "--into-store", "--sudo", "--json")
    built = vcl_here(words, VCL_DSN=dsn, VCL_CACHE=CACHE)
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout) == {"revision": "fresh-v1", "image": "fresh"}
    assert reserved_and_logged_in(real_lab, dsn, "fresh") == "built for this test\nroot\n"
    again = vcl_here(words, VCL_DSN=dsn, VCL_CACHE=CACHE)
    assert json.loads(again.stdout)["revision"] == "fresh-v1", "the same profile is the same image"


def test_many_who_want_an_image_that_is_not_there_get_it_from_one_build(
    real_lab: RealLab, dsn: str, profile: Path, builder: subprocess.Popen[bytes]
) -> None:
    def order(_: int) -> int:
        words = ("build", str(profile), "--queue", "--image", "wanted", "--json")
        asked = vcl_here(words, VCL_DSN=dsn, VCL_CACHE=CACHE)
        assert asked.returncode == 0, asked.stderr
        return json.loads(asked.stdout)["build"]

    with ThreadPoolExecutor(4) as pool:
        (number,) = set(pool.map(order, range(4)))
    followed = vcl_here(("builds", "log", str(number), "--follow"), VCL_DSN=dsn)
    assert followed.returncode == 0, followed.stderr
    assert "configuration" in followed.stdout
    queue = [json.loads(vcl_here(("builds", *words, "--json"), VCL_DSN=dsn).stdout) for words in ((), ("list",))]
    assert [[row["id"] for row in rows] for rows in queue] == [[number], [number]]
    build = builds.one(real_lab.conn, number)
    assert (build.state, build.revision_name, build.builder) == ("done", "wanted-v1", "builder")


def test_a_build_whose_builder_is_killed_is_carried_on_by_the_next(
    real_lab: RealLab, dsn: str, profile: Path, builder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    conn = real_lab.conn
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 3\n")
    slow.chmod(0o755)
    words = ("build", str(profile), "--queue", "--image", "carried", "--host-script", str(slow), "--json")
    number = json.loads(vcl_here(words, VCL_DSN=dsn, VCL_CACHE=CACHE).stdout)["build"]
    Patience(60).until(lambda: builds.one(conn, number).state == "running", "the build to begin")
    builder.kill()
    builder.wait()
    conn.execute("UPDATE image_build SET lease_until = vcl.now() WHERE id = %s", [number])
    settings = tmp_path / "builder.toml"
    with subprocess.Popen([VCL, "--conf", settings, "builds", "run"], env={**os.environ, "VCL_CACHE": CACHE}) as second:
        try:
            Patience(120).until(lambda: builds.one(conn, number).ended_at, "the build to end")
        finally:
            second.terminate()
    assert builds.one(conn, number).revision_name == "carried-v1"


def test_an_order_that_only_this_terminal_could_fill_is_refused(dsn: str, profile: Path) -> None:
    asked = vcl_here(("build", str(profile), "--queue", "--root-password", "stdin"), VCL_DSN=dsn, VCL_CACHE=CACHE)
    assert asked.returncode == 1
    assert "no standard input" in asked.stderr
