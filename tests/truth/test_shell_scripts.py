"""The shell that we send into guests: read by a shell, and by shellcheck, whole as it is sent."""

from __future__ import annotations

import subprocess

from a_module import files_of
from a_need import need


def test_every_script_is_sound() -> None:
    need("shellcheck", "dash")
    scripts = files_of("os", "linux")["scripts"]
    for name in scripts.PARTS:
        text: str = scripts.script(name)
        subprocess.run(["dash", "-n"], input=text, text=True, check=True)
        # A part may have a function that this script does not call, or only without arguments, and set what it leaves.
        argv = ["shellcheck", "--shell=sh", "--exclude=SC2317,SC2119,SC2120,SC2034", "--format=gcc", "-"]
        checked = subprocess.run(argv, input=text, text=True, capture_output=True, check=False)
        assert (name, checked.stdout) == (name, "")


def test_every_file_is_part_of_a_script() -> None:
    scripts = files_of("os", "linux")["scripts"]
    used = {"common", *(part for parts in scripts.PARTS.values() for part in parts)}
    assert {file.stem for file in scripts.FOLDER.glob("*.sh")} == used
