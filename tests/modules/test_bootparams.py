"""Disks that are filled and rewritten without mounting them: whole before, whole after, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from a_firstboot import FIRSTBOOT
from a_need import need

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.images.carriers.bootparams import LARGEST, BootparamsDisk
from vcl_provision.images.carriers.nocloud import nocloud_files
from vcl_provision.images.carriers.plain import bootparams_conf, plain_files
from vcl_provision.images.carriers.vfat import nocloud_vfat
from vcl_provision.model.faults import Cancelled, CommandFailed, Ran, Refused

NEXT = replace(FIRSTBOOT, instance="next", hostname="next", parameters={"later": "x" * 3000})
PATIENCE = 60.0


def off() -> bool:
    return False


@dataclass
class Interrupted(LocalChannel):
    """Kills the whole process before its command number `at`: nothing gets to clean up."""

    at: int = 0
    seen: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def run(self, argv: Sequence[str], **named: object) -> Ran:  # type: ignore[override]
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(argv, **named)  # type: ignore[arg-type]


@pytest.fixture
def disk(tmp_path: Path) -> BootparamsDisk:
    need("mke2fs", "debugfs", "e2fsck")
    made = BootparamsDisk(path=str(tmp_path / "boot.img"), channel=LocalChannel())
    made.make(FIRSTBOOT, patience=Patience(PATIENCE))
    return made


def whole(path: str) -> dict[str, str]:
    """What lies on a disk whose file system is sound."""
    subprocess.run(["e2fsck", "-fn", path], check=True, capture_output=True)
    return BootparamsDisk(path=path, channel=LocalChannel()).read(patience=Patience(PATIENCE))


def test_a_new_disk_says_what_it_was_told(disk: BootparamsDisk) -> None:
    assert whole(disk.path) == plain_files(FIRSTBOOT)
    assert Path(disk.path).stat().st_mode & 0o777 == 0o600
    assert [file.name for file in Path(disk.path).parent.iterdir()] == ["boot.img"]
    label = subprocess.run(["e2label", disk.path], check=True, capture_output=True, text=True)
    assert label.stdout == "bootparams\n"


def test_a_disk_that_is_rewritten_keeps_what_else_lies_on_it(disk: BootparamsDisk, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("kept")
    subprocess.run(["debugfs", "-w", "-R", f"write {tmp_path}/theirs theirs", disk.path], check=True)
    (tmp_path / "theirs").unlink()
    disk.rewrite(NEXT, running=off, patience=Patience(PATIENCE))
    assert whole(disk.path) == plain_files(NEXT)
    kept = subprocess.run(["debugfs", "-R", "cat /theirs", disk.path], check=True, capture_output=True, text=True)
    assert kept.stdout == "kept"
    assert [file.name for file in tmp_path.iterdir()] == ["boot.img"]


def test_nothing_is_written_while_the_machine_runs(disk: BootparamsDisk) -> None:
    before = Path(disk.path).read_bytes()
    with pytest.raises(Refused, match="a machine that is on"):
        disk.rewrite(NEXT, running=lambda: True, patience=Patience(PATIENCE))
    assert Path(disk.path).read_bytes() == before


def test_a_machine_that_is_turned_on_meanwhile_keeps_its_disk(disk: BootparamsDisk, tmp_path: Path) -> None:
    answers = iter([False, True])
    with pytest.raises(Refused, match="a machine that is on"):
        disk.rewrite(NEXT, running=lambda: next(answers), patience=Patience(PATIENCE))
    assert whole(disk.path) == plain_files(FIRSTBOOT)
    assert [file.name for file in tmp_path.iterdir()] == ["boot.img"]


def test_a_failure_that_debugfs_does_not_admit_is_noticed(disk: BootparamsDisk, tmp_path: Path) -> None:
    """The disk is full: debugfs says so and ends with status 0."""
    with Path(tmp_path / "filler").open("wb") as filler:
        filler.write(os.urandom(900 * 1024))
    subprocess.run(["debugfs", "-w", "-R", f"write {tmp_path}/filler filler", disk.path], check=True)
    with pytest.raises(CommandFailed):
        disk.rewrite(replace(NEXT, parameters={"big": "x" * 90_000}), running=off, patience=Patience(PATIENCE))
    assert whole(disk.path) == plain_files(FIRSTBOOT)


def test_who_is_told_to_stop_leaves_nothing_lying_about(disk: BootparamsDisk, tmp_path: Path) -> None:
    patience = Patience(PATIENCE)

    def stopped() -> bool:
        patience.cancel()
        return False

    with pytest.raises(Cancelled):
        disk.rewrite(NEXT, running=stopped, patience=patience)
    assert whole(disk.path) == plain_files(FIRSTBOOT)
    assert [file.name for file in tmp_path.iterdir()] == ["boot.img"]


def test_more_than_fits_is_refused_before_anything_is_touched(disk: BootparamsDisk) -> None:
    with pytest.raises(Refused, match="do not fit"):
        disk.rewrite(replace(NEXT, parameters={"big": "x" * LARGEST}), running=off, patience=Patience(PATIENCE))


def test_a_disk_without_anything_on_it_is_said_to_be_so(tmp_path: Path) -> None:
    subprocess.run(["mke2fs", "-q", tmp_path / "empty", "1M"], check=True)
    with pytest.raises(Refused, match=r"holds no bootparams\.conf"):
        BootparamsDisk(path=f"{tmp_path}/empty", channel=LocalChannel()).read(patience=Patience(PATIENCE))


@pytest.mark.parametrize("path", ["boot.img", "/a b/boot.img", '/a"b', "/a\nb"])
def test_a_path_that_debugfs_would_misread_is_refused(path: str) -> None:
    with pytest.raises(Refused, match="cannot hold boot parameters"):
        BootparamsDisk(path=path, channel=LocalChannel())


STEPS = 12
"""More than rewriting takes: the last of them find it done."""


@pytest.mark.parametrize("at", range(1, STEPS))
def test_whoever_is_killed_leaves_the_old_disk_or_the_new_one(
    disk: BootparamsDisk, at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = str(tmp_path_factory.mktemp("scratch"))
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from test_bootparams import *\n"
        f"disk = BootparamsDisk(path=sys.argv[1], channel=Interrupted(at={at}))\n"
        "disk.rewrite(NEXT, running=off, patience=Patience(60))\n"
        "sys.exit(disk.channel.seen < disk.channel.at)\n"
    )
    argv = [sys.executable, "-c", script, disk.path, *sys.path]
    ended = subprocess.run(argv, env=os.environ | {"TMPDIR": scratch}, check=False)
    assert ended.returncode in {-signal.SIGKILL, 1}
    assert whole(disk.path) in (plain_files(FIRSTBOOT), plain_files(NEXT))
    mounts = Path("/proc/mounts").read_text()
    assert not [place for place in (str(Path(disk.path).parent), scratch) if place in mounts]
    disk.rewrite(NEXT, running=off, patience=Patience(PATIENCE))
    assert whole(disk.path) == plain_files(NEXT)
    assert [file.name for file in Path(disk.path).parent.iterdir()] == ["boot.img"]


def test_a_shell_reads_the_text_without_evaluating_it(tmp_path: Path) -> None:
    """dash and busybox, which are in our guests; and sourcing it, which nobody should, runs nothing."""
    need("dash")
    value = "it's $(touch evil) `touch evil` \\n \\\\ %s\n\t'; touch evil; '"
    (tmp_path / "conf").write_text(bootparams_conf({"parameters/x": value}))
    read = """while IFS= read -r line; do
        case $line in x=*) value=${line#*=\\'}; printf %b "${value%\\'}" ;; esac
    done < conf"""
    for shell in (["dash"], ["bash", "--posix"]):
        got = subprocess.run([*shell, "-c", read], cwd=tmp_path, check=True, capture_output=True, text=True)
        assert got.stdout == value
        subprocess.run([*shell, "-c", ". ./conf"], cwd=tmp_path, check=True)
    assert not (tmp_path / "evil").exists()


def test_the_fat_disk_holds_what_the_iso_disk_holds(tmp_path: Path) -> None:
    need("mkfs.vfat", "mcopy")
    disk = tmp_path / "disk"
    disk.write_bytes(nocloud_vfat(FIRSTBOOT, channel=LocalChannel(), patience=Patience(PATIENCE)))
    for path, content in nocloud_files(FIRSTBOOT).items():
        read = subprocess.run(["mtype", "-i", disk, f"::/{path}"], check=True, capture_output=True)
        assert read.stdout.decode() == content
    label = subprocess.run(["blkid", "-p", "-o", "value", "-s", "LABEL", disk], check=True, capture_output=True)
    assert label.stdout == b"cidata\n"


@pytest.mark.parametrize("names", [("greeting", "GREETING"), ("a.",)])
def test_names_that_fat_cannot_keep_are_refused(names: Sequence[str]) -> None:
    need("mkfs.vfat", "mcopy")
    told = replace(FIRSTBOOT, parameters=dict.fromkeys(names, ""))
    with pytest.raises(Refused, match="a FAT disk cannot") as refusal:
        nocloud_vfat(told, channel=LocalChannel(), patience=Patience(PATIENCE))
    assert refusal.value.hint
