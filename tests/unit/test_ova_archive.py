"""The archive of an OVA: plain files with plain names, and nothing believed that its real size does not bear out."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from a_package import plain, special, write_tar

from vcl_provision.images.formats import archive
from vcl_provision.images.formats.archive import BLOCK, MOST_MEMBERS, read_index, read_member
from vcl_provision.model.faults import Refused


def refusal_of(path: Path) -> str:
    with pytest.raises(Refused) as refusal:
        read_index(path)
    assert refusal.value.hint
    return refusal.value.said


@pytest.fixture
def ova(tmp_path: Path) -> Path:
    return tmp_path / "x.ova"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_found_where_they_lie(ova: Path, form: int) -> None:
    write_tar(ova, [plain("./lab.ovf", b"o" * 700), plain("lab-disk1.vmdk", b"d" * 100)], form=form)
    members = read_index(ova)
    assert [(member.name, member.bytes) for member in members] == [("lab.ovf", 700), ("lab-disk1.vmdk", 100)]
    assert [read_member(ova, member, 1000) for member in members] == [b"o" * 700, b"d" * 100]


def test_what_pax_says_of_size_and_name_holds(ova: Path) -> None:
    info, content = plain("short", b"12345")
    info.pax_headers = {"path": "länger.vmdk", "mtime": "1.5"}
    write_tar(ova, [(info, content)], form=tarfile.PAX_FORMAT)
    assert [member.name for member in read_index(ova)] == ["länger.vmdk"]


@pytest.mark.parametrize(
    "name",
    ["../x.ovf", "/etc/x.ovf", "a/../../x.ovf", "folder/x.ovf", "..", ".", "a\\b", "C:x.ovf", "a\nb", "a\x1b[2J"],
)
def test_a_path_that_leads_elsewhere_is_refused(ova: Path, name: str) -> None:
    write_tar(ova, [plain(name, b"x")])
    assert "no plain file name" in refusal_of(ova)


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE),
        *(tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.CONTTYPE),
    ],
)
def test_what_is_no_plain_file_is_refused(ova: Path, kind: bytes) -> None:
    info, _ = special("lab.ovf", kind, "/etc/shadow")
    ova.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(10 * BLOCK))
    assert "no plain file" in refusal_of(ova)


def test_a_sparse_member_by_pax_is_refused(ova: Path) -> None:
    info, content = plain("lab.vmdk", b"x")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 50)}
    write_tar(ova, [(info, content)], form=tarfile.PAX_FORMAT)
    assert "no plain file" in refusal_of(ova)


def test_two_members_of_one_name_are_refused_also_where_case_differs(ova: Path) -> None:
    for second in ("lab.ovf", "LAB.OVF", "./lab.ovf"):
        write_tar(ova, [plain("lab.ovf", b"1"), plain(second, b"2")])
        assert "twice" in refusal_of(ova)


@pytest.mark.parametrize("size", [1 << 20, 1 << 62, 8 << 30])
def test_a_size_that_the_archive_does_not_have_is_refused(ova: Path, size: int) -> None:
    info, _ = plain("lab.vmdk")
    info.size = size
    ova.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(BLOCK))
    assert "ends before" in refusal_of(ova)


@pytest.mark.parametrize("size", [b"-1", b"99999999999999999999", b"0x10", "٣".encode()])
def test_a_size_by_pax_that_lies_is_refused(ova: Path, size: bytes) -> None:
    record = b" size=" + size + b"\n"
    record = str(len(record) + 2).encode() + record
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, len(record)
    info, _ = plain("lab.vmdk")
    ova.write_bytes(extended.tobuf(tarfile.USTAR_FORMAT) + record.ljust(BLOCK, b"\0") + info.tobuf() + bytes(BLOCK))
    assert refusal_of(ova)


def test_a_header_without_end_is_refused(ova: Path) -> None:
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, 10 << 20
    ova.write_bytes(extended.tobuf(tarfile.USTAR_FORMAT) + bytes(10 << 20))
    assert "header of more than" in refusal_of(ova)


def test_headers_without_members_come_to_an_end(ova: Path) -> None:
    extended = tarfile.TarInfo("x")
    extended.type = tarfile.XGLTYPE
    ova.write_bytes(extended.tobuf(tarfile.USTAR_FORMAT) * 5000)
    assert "headers" in refusal_of(ova)


def test_too_many_members_are_refused(ova: Path) -> None:
    write_tar(ova, [plain(f"{n}.vmdk") for n in range(MOST_MEMBERS)])
    assert len(read_index(ova)) == MOST_MEMBERS
    write_tar(ova, [plain(f"{n}.vmdk") for n in range(MOST_MEMBERS + 1)])
    assert "more than" in refusal_of(ova)


@pytest.mark.parametrize("content", [b"", bytes(1024), b"no archive" * 100, b"\x1f\x8b" + b"x" * 2000])
def test_what_is_no_archive_is_refused(ova: Path, content: bytes) -> None:
    ova.write_bytes(content)
    assert "no OVA" in refusal_of(ova)


def test_an_archive_in_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.ova")
    assert "neither a file" in refusal_of(tmp_path / "x.ova")


def test_a_member_over_its_limit_is_not_read(ova: Path) -> None:
    write_tar(ova, [plain("lab.ovf", b"x" * 11)])
    with pytest.raises(Refused, match="at most 10"):
        read_member(ova, read_index(ova)[0], 10)


def test_our_headers_are_read_by_another_reader(ova: Path) -> None:
    large = 9 << 30
    header = archive.header("lab-disk1.vmdk", large, 1234567890)
    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (info.name, info.size, info.mtime, info.isreg()) == ("lab-disk1.vmdk", large, 1234567890, True)
    with pytest.raises(Refused, match="too long a name"):
        archive.header("x" * 101, 1, 0)
