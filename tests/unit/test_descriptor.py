"""Descriptors: what they say, what they refuse, how they are found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from vcl_provision.images.repository import (
    Blob,
    DirectBoot,
    Disk,
    DiskFormat,
    DiskRole,
    ImageDescriptor,
    OperatingSystem,
    parse,
    written,
)
from vcl_provision.images.repository.matching import matching, nearest
from vcl_provision.model.faults import Refused


def blob(letter: str, size: int = 10) -> Blob:
    return Blob(sha256=letter * 64, bytes=size)


def disk(name: str = "system", role: DiskRole = DiskRole.SYSTEM, letter: str = "a") -> Disk:
    return Disk(name=name, role=role, format=DiskFormat.QCOW2, blob=blob(letter), virtual_bytes=1 << 30)


def image(name: str = "debian12-v3", **changes: object) -> ImageDescriptor:
    said: dict[str, object] = {
        "name": name,
        "image": "debian12",
        "revision": 3,
        "os": OperatingSystem(name="Debian GNU/Linux 12", family="debian", version="12", variant="server"),
        "disks": [disk()],
    }
    return ImageDescriptor(**{**said, **changes})  # type: ignore[arg-type]


FULL = image(
    disks=[
        disk(),
        disk("application", DiskRole.APPLICATION, "b"),
        disk("data", DiskRole.DATA, "c"),
        disk("parameters", DiskRole.BOOT_PARAMETERS, "d"),
    ],
    boot=DirectBoot(kernel=blob("e"), initrd=blob("f"), command_line="root=LABEL=x ro"),
    parent="debian12-v2",
    origin="vm7",
    captured_at=datetime(2026, 11, 21, 10, tzinfo=UTC),
    recipe="0123",
    metadata={"no": "yes", "12": "22.10", "colon": "a: b", "lines": "one\ntwo", "empty": ""},
)
TEXT = written(FULL).decode()


def test_what_is_written_is_read_again() -> None:
    assert parse(written(FULL)) == FULL
    assert parse(written(image())) == image()
    assert written(parse(written(FULL))) == written(FULL)


def test_a_quicker_sum_is_kept_where_there_is_one_and_names_nothing() -> None:
    quick = replace(blob("a"), blake3="c" * 64)
    both = image(disks=[replace(disk(), blob=quick)])
    assert f"blake3: {'c' * 64}\n" in written(both).decode()
    assert "blake3" not in TEXT
    assert parse(written(both)).system_disk.blob.blake3 == "c" * 64
    assert (quick, len({quick, blob("a")})) == (blob("a"), 1)


def test_people_can_read_it() -> None:
    for line in (
        "name: debian12-v3",
        "family: debian",
        "role: application",
        "captured_at: '2026-11-21T10:00:00+00:00'",
    ):
        assert line in TEXT


def test_text_stays_text_however_it_looks() -> None:
    text = TEXT.replace("version: '12'", "version: 22.10").replace("variant: server", "variant: no")
    assert (parse(text.encode()).os.version, parse(text.encode()).os.variant) == ("22.10", "no")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT[: len(TEXT) // 2], "has no|is no YAML"),
        ("disks: [unfinished", "is no YAML: .*line"),
        ("", "holds no map"),
        ("- a\n- list\n", "holds no map"),
        (TEXT.replace("name: debian12-v3\n", ""), "has no name"),
        (TEXT.replace("revision: 3", "revision: three"), "has 'three' as revision, which is no whole number"),
        (TEXT.replace("revision: 3", "revision: -3"), "has '-3' as revision"),
        (TEXT.replace("revision: 3", f"revision: {'9' * 400}"), "as revision, which is no whole number"),
        (TEXT.replace("revision: 3", "revision: [3]"), "has a list as revision"),
        (TEXT.replace("role: data", "role: date"), "has 'date' as disks 3: role, which is no system or application"),
        (TEXT.replace("format: qcow2", "format: iso", 1), "has 'iso' as disks 1: format"),
        (TEXT.replace("disks:\n", "disks: none\nother:\n"), "has 'none' as disks, which is no list"),
        (TEXT.replace("sha256: " + "a" * 64, "sha256: abc"), "'abc' is no SHA-256"),
        (TEXT.replace("sha256: " + "a" * 64, f"sha256: {'a' * 64}\n  blake3: abc"), "'abc' is no BLAKE3"),
        (TEXT.replace("origin: vm7", "origin: vm7\norigin: vm8"), "gives origin twice, again in line"),
        (TEXT.replace("family: debian", "family: debian\n  family: ubuntu"), "gives family twice"),
        (TEXT.replace("origin: vm7", "nickname: vm7"), "has the unknown field nickname"),
        (TEXT.replace("format: '1'", "format: '2'"), "has format 2, this version reads 1"),
        (TEXT.replace("captured_at: '2026-11-21T10:00:00+00:00'", "captured_at: lately"), "which is no moment"),
        (TEXT.replace("+00:00", ""), "in no time zone"),
        ("!!python/object/apply:os.system [touch /tmp/vcl-was-here]", "has the tag .*python/object"),
        (TEXT.replace("origin: vm7", "origin: !!python/name:os.system"), "has the tag"),
        (BOMB, "has an anchor or alias in line 1"),
        (TEXT.replace("origin: vm7", "origin: *nothing"), "has an anchor or alias|is no YAML"),
        ("[" * 3000, "is nested deeper than|is no YAML"),
        ("{a: " * 20 + "x" + "}" * 20, "is nested deeper"),
        (TEXT + "# " + "x" * 300_000, "is larger than"),
        ("? [a, b]\n: c\n", "is no YAML|has the unknown|has no"),
        (TEXT.replace("role: system", "role: data"), "has no system disk"),
        (TEXT.replace("role: data", "role: system"), "has 2 system disks"),
        (TEXT.replace("- name: data", "- name: system"), "has two disks named system"),
        (TEXT.replace("name: debian12-v3", "name: ../../etc/passwd"), "cannot be the name of a revision"),
        (TEXT.replace("virtual_bytes: 1073741824", "virtual_bytes: 0", 1), "is 0 bytes large"),
    ],
)
def test_a_bad_descriptor_is_refused_and_says_why(text: str, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        parse(text.encode())
    assert refused.value.hint


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(Refused, match="is no UTF-8 text"):
        parse(b"name: \xff\xfe")


def test_an_alias_bomb_costs_no_memory() -> None:
    levels = ["l0: &l0 [x]"] + [f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(Refused, match="anchor or alias"):
        parse("\n".join(levels).encode())


def test_a_name_with_separators_is_never_taken_apart() -> None:
    odd = image("a-v1-v2-0x0-group.v9", image="a-v1", revision=7)
    assert (parse(written(odd)).image, parse(written(odd)).revision) == ("a-v1", 7)


def test_architectures_have_one_name() -> None:
    assert {OperatingSystem(name="x", family="x", architecture=name).architecture for name in ("x86_64", "AMD64")} == {
        "amd64"
    }


def test_a_new_application_keeps_all_else() -> None:
    new = disk("application", DiskRole.APPLICATION, "9")
    after = FULL.with_application_disk(new, name="debian12-v4", revision=4)
    assert [each.blob for each in after.disks] == [blob("a"), blob("9"), blob("c"), blob("d")]
    assert (after.system_disk, after.boot, after.parent) == (FULL.system_disk, FULL.boot, "debian12-v3")
    added = FULL.with_application_disk(replace(new, name="second"), name="debian12-v4", revision=4)
    assert [each.name for each in added.disks][-1] == "second"
    for wrong in (disk("data", DiskRole.APPLICATION), disk("x", DiskRole.DATA)):
        with pytest.raises(Refused):
            FULL.with_application_disk(wrong, name="debian12-v4", revision=4)


def test_size_counts_each_content_once() -> None:
    twice = image(disks=[disk(), disk("again", DiskRole.DATA)])
    assert twice.size_bytes == 10


def system(family: str, version: str, variant: str = "server", architecture: str = "amd64") -> OperatingSystem:
    return OperatingSystem(
        name=family.title(), family=family, version=version, variant=variant, architecture=architecture
    )


CATALOGUE = [
    image("debian12-v3"),
    image("debian12-v4", revision=4),
    image("debian11-v1", image="debian11", revision=1, os=system("debian", "11", "minimal")),
    image("ubuntu-a-v1", image="ubuntu-a", revision=1, os=system("ubuntu", "22.04")),
    image("ubuntu-b-v1", image="ubuntu-b", revision=1, os=system("ubuntu", "11.04", "desktop", "arm64")),
]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("debian 12", ["debian12-v4", "debian12-v3"]),
        ("  DEBIAN   12  ", ["debian12-v4", "debian12-v3"]),
        ("debian12", ["debian12-v4", "debian12-v3"]),
        ("deb 12 server x86_64", ["debian12-v4", "debian12-v3"]),
        ("debian 1", []),
        ("ubuntu server", ["ubuntu-a-v1"]),
        ("ubuntu 22", ["ubuntu-a-v1"]),
        ("ubuntu 11.04", ["ubuntu-b-v1"]),
        ("arm64", ["ubuntu-b-v1"]),
        ("debain minimal", ["debian11-v1"]),
        ("debian12-v3", ["debian12-v3"]),
        ("windows", []),
        ("", []),
    ],
)
def test_images_are_found_by_words(words: str, names: list[str]) -> None:
    assert [each.name for each in matching(words, CATALOGUE)] == names


def test_the_nearest_is_offered() -> None:
    assert "ubuntu 22.04 server amd64" in nearest("kubuntu 22.10 server", CATALOGUE)
    assert len(nearest("zzz", CATALOGUE)) == 3
    assert nearest("zzz", []) == []
