"""docs/writing-a-module.md is run: its pieces are the module, its commands are asked, what it shows is what is said."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fix_libvirt import put_in_repository

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-module.md"
BLOCK = re.compile(r"^```(?P<kind>\w+)(?P<about>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of the page: its kind, what stands beside it, its text."""

    kind: str
    about: str
    text: str


def blocks() -> Iterator[Block]:
    for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        yield Block(found["kind"], found["about"].strip(), found["text"])


class Reader:
    """Somebody who does what the page says, in a folder of their own in place of /srv/vcl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pieces: list[str] = []
        self._last = ""

    def do(self, block: Block) -> None:
        match block.kind, block.about:
            case "python", 'title="qemu.py"':
                self._pieces.append(block.text)
            case "python", 'title="qemu.py, its last line"':
                self._last = block.text
            case "toml", 'title="against.toml"':
                text = block.text.replace("/srv/vcl", str(self.folder))
                (self.folder / "against.toml").write_text(text, encoding="utf-8")
            case "console", about:
                self._run(block.text, without=about.partition('="')[2].removesuffix('"'))
            case _:
                pass

    def _run(self, text: str, *, without: str) -> None:
        module = "\n".join(self._pieces) + "\n\n" + self._last
        if without:
            lines = [line for line in module.splitlines(keepends=True) if without not in line]
            assert len(lines) == module.count("\n") - 1, "the page speaks of one line"
            module = "".join(lines)
        (self.folder / "qemu.py").write_text(module, encoding="utf-8")
        command, *shown = text.splitlines()
        said = self._said(shlex.split(command.removeprefix("$ ")))
        remaining = iter(said.splitlines())
        for line in shown:
            assert any(line.strip() in each for each in remaining), f"the page shows {line!r}; the kit said:\n{said}"

    def _said(self, argv: list[str]) -> str:
        """What the command of the page prints, run in the reader's folder."""
        assert argv[0] == "vcl"
        program = "from vcl_provision.faces.cli import main; main()"
        ran = subprocess.run(
            [sys.executable, "-c", program, *argv[1:]], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert ran.returncode in {0, 1}, ran.stderr
        return ran.stdout


@pytest.fixture
def qemu() -> None:
    if not shutil.which("qemu-system-x86_64"):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "qemu-system-x86_64: apt install qemu-system-x86"
        )


@pytest.mark.usefixtures("qemu")
def test_whoever_does_what_the_page_says_has_a_module_that_keeps_the_contract(
    tmp_path: Path, small_image: Path
) -> None:
    put_in_repository(small_image, tmp_path / "images", "small-v1")
    reader = Reader(tmp_path)
    for block in blocks():
        reader.do(block)


def test_the_module_of_the_page_is_small() -> None:
    lines = [line for block in blocks() if "qemu.py" in block.about for line in block.text.splitlines() if line.strip()]
    assert len(lines) < 160
