"""How disks are divided: from options and files, everything wrong named; where partitions lie; what is mounted."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from vcl_provision.images.builder.disks.fstab import fstab
from vcl_provision.images.builder.disks.layout import (
    GIB,
    MIB,
    Disk,
    FileSystem,
    Layout,
    Partition,
    Table,
    from_sizes,
    whole_disk,
)
from vcl_provision.images.builder.disks.layout_files import parse_layout, read_layout
from vcl_provision.images.builder.disks.loaders import Loader, bootable
from vcl_provision.images.builder.disks.placing import place, root_uuid
from vcl_provision.images.builder.disks.sizes import size_bytes
from vcl_provision.images.builder.disks.tables import sfdisk_script
from vcl_provision.model.faults import Refused

ROOT = Partition(mount="/", size=4 * GIB)
PART_FILE = """\
root 4096   # as VMBuilder names it
swap 1G
---
/var 8G xfs
/var/log 512
"""
YAML = """\
disks:
  - size: 20 GiB
    partitions:
      - {filesystem: swap, size: 1G, label: swap}
      - mount: /
        size: rest
        label: root
        options: [noatime, errors=remount-ro]
        features: [^has_journal]
  - table: mbr
    partitions:
      - filesystem: lvm
        size: 10G
        group: lab
        volumes:
          - {mount: /srv, size: 4G, label: srv, filesystem: xfs}
          - {mount: /home, size: rest, label: home}
"""


def test_sizes_of_options_make_one_disk_whose_root_is_last_and_can_grow() -> None:
    layout = from_sizes(root=4 * GIB, swap=GIB, opt=512 * MIB)
    (disk,) = layout.disks
    assert [(part.mount, part.filesystem, part.size) for part in disk.partitions] == [
        ("", FileSystem.SWAP, GIB),
        ("/opt", FileSystem.EXT4, 512 * MIB),
        ("/", FileSystem.EXT4, 4 * GIB),
    ]
    assert [part.mount for part in from_sizes(root=GIB).disks[0].partitions] == ["/"]


def test_a_part_file_of_vmbuilder_is_read_as_it_was() -> None:
    layout = parse_layout(PART_FILE, name="parts", is_yaml=False)
    first, second = layout.disks
    assert [(part.mount, part.size) for part in first.partitions] == [("/", 4 * GIB), ("", GIB)]
    assert [(part.mount, part.size) for part in second.partitions] == [("/var", 8 * GIB), ("/var/log", 512 * MIB)]
    assert [part.filesystem for part in second.partitions] == [FileSystem.XFS, FileSystem.EXT4]


def test_yaml_says_all_that_a_layout_can(tmp_path: Path) -> None:
    (tmp_path / "disks.yaml").write_text(YAML)
    first, second = read_layout(tmp_path / "disks.yaml").disks
    root = first.partitions[1]
    assert (first.table, first.size, root.size) == (Table.GPT, 20 * GIB, None)
    assert (root.label, root.options, root.features) == ("root", ["noatime", "errors=remount-ro"], ["^has_journal"])
    assert second.table is Table.MBR
    assert [volume.mount for volume in second.partitions[0].volumes] == ["/srv", "/home"]


def test_every_wrong_line_of_a_part_file_is_named() -> None:
    with pytest.raises(Refused) as no:
        parse_layout("root 4x\nswap\n\nvar 100\n/a 1 ntfs\n", name="parts", is_yaml=False)
    for line, word in ((1, "'4x' is no size"), (2, "'swap'"), (4, "'var' is no mount point"), (5, "'ntfs'")):
        assert f"parts:{line}: " in no.value.said
        assert word in no.value.said


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("disks:\n- partitions:\n  - {mount: /, sise: 1G}\n", 3, "did you mean 'size'?"),
        ("disks:\n- partitions:\n  - {mount: /, size: 1G}\n  - {mount: /, size: 1G}\n", 4, "/ is there twice"),
        ("disks:\n- partitions:\n  - mount: /\n    size: 1G\n    filesystem: zfs\n", 5, "no file system 'zfs'"),
        ("disks:\n- tables: gpt\n", 2, "a disk has no field 'tables'; did you mean 'table'?"),
        ("disks:\n- partitions:\n  - {mount: /, size: rest}\n", 2, "needs the disk's own size"),
        ("disks:\n- partitions:\n  - {mount: /srv, size: 1G}\n", 2, "nothing is mounted at /"),
        ("disks: [\n", 2, "no YAML"),
        ("disks: &d\n- partitions: *d\n", 1, "written out"),
        ("disks: " + "[" * 9000, 1, "nested too deeply"),
        ("disks:\n- partitions:\n  - {mount: /a/../b, size: 1G}\n", 3, "no mount point"),
        ("disks:\n- partitions:\n  - {mount: /, size: 1G, filesystem: !!python/name:a.b }\n", 3, "no file system"),
        ("- 1\n", 1, "a layout is a map"),
        ("", 1, "a layout is a map"),
    ],
)
def test_what_is_wrong_in_yaml_is_named_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(Refused) as no:
        parse_layout(text, name="disks.yaml", is_yaml=True)
    assert f"disks.yaml:{line}: " in no.value.said
    assert said in no.value.said


def test_no_text_at_all_makes_the_reader_fail_in_another_way() -> None:
    """Seeded, so that a failure comes again: pieces of layouts in any order."""
    dice = random.Random(3)
    words = [*YAML.split(), *PART_FILE.split(), *"\n{}[]\0é", "\n  ", ": ", "- ", "&a", "*a", "---"]
    for _ in range(400):
        text = " ".join(dice.choices(words, k=dice.randrange(1, 30)))
        for is_yaml in (True, False):
            with suppress(Refused):
                parse_layout(text, name="any", is_yaml=is_yaml)


@pytest.mark.parametrize(
    ("disks", "said"),
    [
        ([], "nothing is mounted at /"),
        ([Disk(partitions=[])], "it has no partitions"),
        ([Disk(table=Table.NONE, partitions=[ROOT, replace(ROOT, mount="/srv")])], "one file system only"),
        ([Disk(table=Table.MBR, partitions=[ROOT] * 5)], "room for 4"),
        ([Disk(size=GIB, partitions=[ROOT])], "its partitions need 4098 MiB, it has 1024"),
        ([Disk(partitions=[replace(ROOT, filesystem=FileSystem.SWAP)])], "swap cannot be mounted at /"),
        ([Disk(partitions=[replace(ROOT, filesystem=FileSystem.XFS, size=100 * MIB)])], "xfs needs 300 MiB"),
        ([Disk(partitions=[replace(ROOT, label="a label")])], "cannot have the label"),
        ([Disk(partitions=[replace(ROOT, options=["a,b\n/ x"])])], "cannot have the mount option"),
        ([Disk(partitions=[replace(ROOT, filesystem=FileSystem.XFS, features=["bigtime"])])], "only ext4 has some"),
        ([Disk(partitions=[ROOT, Partition(filesystem=FileSystem.LVM, size=GIB, group="g")])], "no volumes"),
    ],
)
def test_disks_that_cannot_be_are_refused(disks: list[Disk], said: str) -> None:
    with pytest.raises(Refused, match=said):
        Layout(disks=disks)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4 * GIB), ("1.5G", 3 * GIB // 2), ("8 GiB", 8 * GIB), ("2MB", 2 * MIB), ("1t", 1024 * GIB)],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1G", "1 parsec", "G", "1G 2G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is no size"):
        size_bytes(text)


def test_partitions_lie_one_after_the_other_within_their_disk() -> None:
    layout = parse_layout(YAML, name="y", is_yaml=True)
    first, second = place(layout, seed="s")
    swap, root = first.partitions
    assert (swap.start, swap.size) == (MIB, GIB)
    assert root.start == swap.start + swap.size
    assert root.start + root.size == 20 * GIB - MIB  # the second copy of a GPT lies behind it
    assert second.size == 10 * GIB + 2 * MIB
    assert [volume.size for volume in second.partitions[0].volumes] == [4 * GIB, 0]


def test_a_larger_device_gives_its_room_to_the_rest_and_a_smaller_one_is_refused() -> None:
    layout = parse_layout(YAML, name="y", is_yaml=True)
    first, _ = place(layout, seed="s", sizes=[30 * GIB, None])
    assert first.size == 30 * GIB
    assert first.partitions[1].start + first.partitions[1].size == 30 * GIB - MIB
    with pytest.raises(Refused, match="too small for disk 2"):
        place(layout, seed="s", sizes=[None, GIB])


def test_the_same_seed_gives_the_same_names_and_another_one_others() -> None:
    layout = from_sizes(root=GIB, swap=GIB)
    assert place(layout, seed="a") == place(layout, seed="a")
    names = [{part.uuid for part in place(layout, seed=seed)[0].partitions} for seed in ("a", "b")]
    assert len(names[0] | names[1]) == 4


def test_fstab_names_file_systems_by_uuid_each_after_what_it_lies_in() -> None:
    layout = bootable(parse_layout(PART_FILE, name="p", is_yaml=False), Loader.UEFI)
    lines = [line.split() for line in fstab(layout, seed="s").splitlines()]
    assert [line[1] for line in lines] == ["/", "/var", "/boot/efi", "/var/log", "none"]
    assert lines[0] == [f"UUID={root_uuid(layout, 's')}", "/", "ext4", "errors=remount-ro", "0", "1"]
    assert lines[1][2:] == ["xfs", "defaults", "0", "0"]
    assert lines[2][2:] == ["vfat", "umask=0077", "0", "2"]
    assert lines[4][2:] == ["swap", "sw", "0", "0"]


def test_a_table_is_told_to_sfdisk_to_the_last_number() -> None:
    layout = Layout(disks=[Disk(table=Table.MBR, partitions=[Partition(filesystem=FileSystem.SWAP, size=MIB), ROOT])])
    (disk,) = place(layout, seed="s")
    assert sfdisk_script(disk).splitlines() == [
        "label: dos",
        f"label-id: {disk.identifier}",
        "unit: sectors",
        "sector-size: 512",
        "",
        "start=2048, size=2048, type=82",
        "start=4096, size=8388608, type=83, bootable",
    ]
    assert len(disk.identifier) == len("0x12345678")


def test_each_loader_gets_the_partition_that_it_needs_and_no_second_one() -> None:
    layout = from_sizes(root=GIB)
    kinds = {
        loader: [part.filesystem for part in bootable(bootable(layout, loader), loader).disks[0].partitions[:-1]]
        for loader in Loader
    }
    assert kinds == {
        Loader.DIRECT: [],
        Loader.BIOS: [FileSystem.BIOS_BOOT],
        Loader.UEFI: [FileSystem.ESP],
        Loader.EITHER: [FileSystem.BIOS_BOOT, FileSystem.ESP],
    }
    on_mbr = from_sizes(root=GIB, table=Table.MBR)
    assert bootable(on_mbr, Loader.BIOS) == on_mbr
    with pytest.raises(Refused, match="without a partition table"):
        bootable(whole_disk(GIB), Loader.BIOS)
