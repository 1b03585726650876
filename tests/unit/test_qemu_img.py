"""How qemu-img is told what to do, and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from vcl_provision.channels.command import judged
from vcl_provision.channels.patience import Patience
from vcl_provision.images.formats import qemu_img
from vcl_provision.images.formats.manifest import parse_manifest, write_manifest
from vcl_provision.images.formats.words import DiskFormat, Slice
from vcl_provision.model.faults import CommandFailed, ProvisionError, Ran, Refused, Transient


class Pretended:
    """A channel on which every command ends in the same way."""

    def __init__(self, status: int = 0, stderr: str = "") -> None:
        self._status, self._stderr = status, stderr
        self.commands: list[Sequence[str]] = []
        self.changed: list[bool] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        patience: Patience,
        stdin: bytes = b"",
        name: str = "",
        changes: bool = True,
        accept: Sequence[int] = (0,),
    ) -> Ran:
        self.commands.append(argv)
        self.changed.append(changes)
        return judged(Ran(argv=argv, status=self._status, stderr=self._stderr), "here", accept)

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        raise AssertionError

    def close(self) -> None:
        """Nothing is kept open."""


def told(node: str) -> dict[str, object]:
    assert node.startswith("json:")
    return json.loads(node.removeprefix("json:"))


def test_a_disk_is_named_with_format_and_protocol_and_nothing_beneath() -> None:
    path = Path('/x/nbd:host,format=qcow2,"a".img')
    assert told(qemu_img.node(path, DiskFormat.QCOW2)) == {
        "driver": "qcow2",
        "backing": None,
        "file": {"driver": "file", "filename": str(path)},
    }
    assert told(qemu_img.node(Path("/x"), DiskFormat.RAW)) == {
        "driver": "raw",
        "file": {"driver": "file", "filename": "/x"},
    }


def test_a_slice_is_named_in_whole_sectors() -> None:
    node = told(qemu_img.node(Slice(path=Path("/x.ova"), offset=1536, bytes=1000), DiskFormat.VMDK))
    assert node["file"] == {
        "driver": "raw",
        "offset": 1536,
        "size": 1024,
        "file": {"driver": "file", "filename": "/x.ova"},
    }


def test_it_runs_in_limits_that_follow_the_work() -> None:
    channel = Pretended()
    qemu_img.run(channel, ["check"], about=Path("x"), patience=Patience(10))
    qemu_img.run(channel, ["convert"], about=Path("x"), patience=Patience(10), writes=5000)
    limits = [dict(word.lstrip("-").split("=") for word in argv[1:5]) for argv in channel.commands]
    assert [argv[0] for argv in channel.commands] == ["prlimit", "prlimit"]
    assert [told["fsize"] for told in limits] == [str(1 << 20), "5000"]
    assert all(told["as"] == str(4 << 30) and told["core"] == "0" and 38 <= int(told["cpu"]) <= 42 for told in limits)
    assert channel.changed == [False, True]


@pytest.mark.parametrize(
    ("stderr", "kind", "said"),
    [
        ("qemu-img: error while writing at byte 0: No space left on device", Refused, "file system is full"),
        ("error.c:59: error_setv: Assertion `*errp == NULL' failed.", Refused, "file system is full"),
        ("qemu-img: error while writing at byte 0: File too large", Refused, "past its limit"),
        ("qemu-img: Could not open 'x': Image is not in qcow2 format", Refused, "not of the format"),
        ("qemu-img: Could not open 'x': invalid VMDK image descriptor", Refused, "not of the format"),
        ("qemu-img: error while reading at byte 917504: Invalid argument", Refused, "damaged"),
        ("qemu-img: error while reading at byte 0: Input/output error", Refused, "damaged"),
        ('qemu-img: Failed to get shared "write" lock\nIs another process using the image', Transient, "in use"),
        ("qemu-img: something new", CommandFailed, "something new"),
    ],
)
def test_what_it_says_is_said_plainly(stderr: str, kind: type[ProvisionError], said: str) -> None:
    with pytest.raises(kind, match=said) as refusal:
        qemu_img.run(Pretended(1, stderr), ["info"], about=Path("/x/lab.qcow2"), patience=Patience(10))
    if kind is not CommandFailed:
        assert "/x/lab.qcow2" in refusal.value.said
        assert refusal.value.hint


@pytest.mark.parametrize(
    ("status", "stderr"),
    [
        (127, "prlimit: No such file or directory"),
        (1, "prlimit: failed to execute qemu-img: No such file or directory"),
    ],
)
def test_a_program_that_is_missing_is_named_with_its_package(status: int, stderr: str) -> None:
    with pytest.raises(Refused, match="not installed") as refusal:
        qemu_img.run(Pretended(status, stderr), ["info"], about=Path("x"), patience=Patience(10))
    assert "qemu-utils" in refusal.value.hint


@pytest.mark.parametrize("line", ["SHA256(a)= {}", "SHA256 (a) = {}", "SHA256(a)={}", "sha256(a)= {}"])
def test_manifests_are_read_as_their_writers_space_them(line: str) -> None:
    digest = parse_manifest((line.format("AB" * 32) + "\r\n\n").encode(), "x.mf")["a"]
    assert (digest.algorithm, digest.value) == ("sha256", "ab" * 32)


@pytest.mark.parametrize(
    "text",
    [
        "MD5(a)= " + "0" * 32,
        "SHA256(a)= " + "0" * 40,
        "SHA1(a)= " + "0" * 64,
        "SHA256(a)= " + "x" * 64,
        "rubbish",
        f"SHA256(a)= {'0' * 64}\nSHA256(a)= {'1' * 64}",
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"x\.mf"):
        parse_manifest(text.encode(), "x.mf")


def test_a_manifest_is_written_as_esxi_takes_it() -> None:
    text = write_manifest({"lab.ovf": "0" * 64, "lab-disk1.vmdk": "1" * 64})
    assert text == f"SHA256(lab.ovf)= {'0' * 64}\nSHA256(lab-disk1.vmdk)= {'1' * 64}\n".encode()
    assert list(parse_manifest(text, "x.mf")) == ["lab.ovf", "lab-disk1.vmdk"]
