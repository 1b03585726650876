"""Parts of the builder: a guest's tree that is not left, a cache that is whole or empty, targets that are not lost."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder.cache import Cache, digest_of, remove_tree
from vcl_provision.images.builder.initrd import Entry, busybox_initrd, cpio
from vcl_provision.images.builder.log import BuildLog
from vcl_provision.images.builder.targets import check_target, put_in_place
from vcl_provision.images.builder.tree import RootTree
from vcl_provision.model.faults import Ran, Refused, TimedOut

KERNEL = "6.1.0-99-cloud-amd64"
MODULES_DEP = """\
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
"""


def test_links_of_a_guest_are_never_followed_out_of_it(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "etc").mkdir(parents=True)
    outside.mkdir()
    (outside / "passwd").write_text("the host's")
    tree = RootTree(root)
    (root / "etc/absolute").symlink_to(outside)
    (root / "etc/climbing").symlink_to("../../outside")
    (root / "etc/passwd").symlink_to(outside / "passwd")
    tree.write("etc/absolute/passwd", "the guest's")
    tree.write("etc/climbing/passwd", "the guest's")
    tree.write("etc/passwd", "the guest's")
    tree.append("etc/passwd", ", more")
    assert (outside / "passwd").read_text() == "the host's"
    assert (root / "etc/passwd").read_text() == "the guest's, more"
    assert (root / str(outside).lstrip("/") / "passwd").read_text() == "the guest's"
    assert (root / "outside/passwd").read_text() == "the guest's"


def test_a_link_that_is_followed_is_followed_as_the_guest_would(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "link").symlink_to("/lib")
    tree = RootTree(tmp_path)
    tree.write("link/os-release", "x")
    assert (tmp_path / "usr/lib/os-release").read_text() == "x"
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(Refused, match="go in circles"):
        tree.write("a/file", "x")


def test_what_is_laid_in_is_readable_whatever_the_umask_and_scripts_run(tmp_path: Path) -> None:
    laid, root = tmp_path / "laid", tmp_path / "root"
    (laid / "usr/lib/vcl").mkdir(parents=True)
    (laid / "usr/lib/vcl/first-boot").write_text("#!/bin/sh\n")
    (laid / "usr/lib/vcl/text").write_text("text")
    root.mkdir()
    before = os.umask(0o077)
    try:
        RootTree(root).lay(laid)
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE((root / path).stat().st_mode) for path in ("usr/lib/vcl/first-boot", "usr/lib/vcl/text", "usr")
    ]
    assert modes == [0o755, 0o644, 0o755]


def test_patterns_remove_files_and_links_but_no_folders(tmp_path: Path) -> None:
    (tmp_path / "var/log/apt").mkdir(parents=True)
    (tmp_path / "var/log/dpkg.log").write_text("x")
    (tmp_path / "var/log/broken.log").symlink_to("nowhere")
    tree = RootTree(tmp_path)
    tree.remove("var/log/*")
    tree.remove("no/such/folder/*")
    assert [path.name for path in (tmp_path / "var/log").iterdir()] == ["apt"]


def test_what_fails_to_be_made_is_not_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.prepare()

    def half(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.make("base", "d", half, remove_tree)
    assert not cache.has("base", "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]
    cache.make("base", "d", lambda folder: (folder / "whole").touch(), remove_tree)
    assert cache.has("base", "d")
    assert not cache.has("base", "d", max_age=-1)


def test_what_nobody_has_used_for_a_month_is_forgotten(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.prepare()
    for digest in ("0a", "1b"):
        cache.make("base", digest, lambda folder: (folder / "x").touch(), remove_tree)
    now = cache.path("base", "1b").stat().st_mtime
    os.utime(cache.path("base", "0a"), (now - 40 * 86400, now - 40 * 86400))
    cache.forget_unused(remove_tree, now=now)
    assert (cache.has("base", "0a"), cache.has("base", "1b")) == (False, True)
    assert cache.archives.is_dir()


def test_builds_beyond_the_limit_wait(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.prepare()
    full = pytest.raises(TimedOut, match="one of 2 builds to end")
    with cache.slot(2, Patience(5)), cache.slot(2, Patience(5)), full, cache.slot(2, Patience(0)):
        pass
    with cache.slot(1, Patience(0)):
        pass


def test_a_digest_is_of_values_and_of_contents(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    first = digest_of("stage", {"b": 1, "a": 2}, files=[file])
    assert first == digest_of("stage", {"a": 2, "b": 1}, files=[file])
    file.write_text("two")
    assert first != digest_of("stage", {"a": 2, "b": 1}, files=[file])


def fill(folder: Path) -> None:
    (folder / "disk").write_text("new")
    (folder / "image.json").write_text("{}")
    (folder / "profile.yaml").write_text("{}")


def test_a_target_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "web1"
    put_in_place(target, fill)
    (target / "disk").write_text("old")

    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - the one above
        put_in_place(target, fail)
    assert (target / "disk").read_text() == "old"
    put_in_place(target, fill)
    assert (target / "disk").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["web1"]


def test_a_swap_that_was_killed_in_the_middle_gives_the_old_one_back(tmp_path: Path) -> None:
    target = tmp_path / "web1"
    put_in_place(target, fill)
    target.rename(tmp_path / ".web1.old")
    with pytest.raises(Refused, match="is there already"):
        check_target(target, overwrite=False)
    assert (target / "disk").read_text() == "new"
    put_in_place(target, fill)
    assert [path.name for path in tmp_path.iterdir()] == ["web1"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_image_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:  # noqa: FBT001 - a parameter
    (tmp_path / "file").write_text("somebody's")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis").write_text("somebody's")
    (tmp_path / "empty").mkdir()
    for name in ("file", "link", "folder"):
        with pytest.raises(Refused, match=r"there already, and is no"):
            check_target(tmp_path / name, overwrite=overwrite)
    check_target(tmp_path / "empty", overwrite=overwrite)
    check_target(tmp_path / "none", overwrite=overwrite)


def test_a_log_has_what_programs_said(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "logs/web1.log")
    log.ran("here", Ran(argv=("mke2fs", "-q"), status=1, stderr="no space\n", seconds=0.5), changes=True)
    log.ran("here", Ran(argv=("apt-config",), status=0, stdout="pages of settings"), changes=False)
    text = log.path.read_text()
    assert "$ mke2fs -q  [on here: status 1 after 0.5 s]\nno space\n" in text
    assert "pages of settings" not in text


def fill_root(root: Path) -> None:
    modules = root / "usr/lib/modules" / KERNEL
    for line in MODULES_DEP.splitlines():
        path = modules / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line)
    (modules / "modules.dep").write_text(MODULES_DEP)
    (modules / "modules.builtin").write_text("kernel/drivers/virtio/virtio_mmio.ko\n")
    (root / "usr/bin").mkdir()
    (root / "usr/bin/busybox").write_text("busybox")


def test_modules_are_loaded_after_those_that_they_need(tmp_path: Path) -> None:
    fill_root(tmp_path)
    archive = busybox_initrd(tmp_path, KERNEL)
    places = [archive.index(name) for name in (b"virtio_ring.ko", b"virtio.ko", b"virtio_pci.ko", b"virtio_blk.ko")]
    assert places == sorted(places)
    assert b"virtio_mmio" not in archive


def test_a_root_of_another_kind_has_its_driver_in_the_ram_disk_and_its_name(tmp_path: Path) -> None:
    fill_root(tmp_path)
    archive = busybox_initrd(tmp_path, KERNEL, root_type="xfs", more_modules=["xfs"])
    assert archive.index(b"virtio_blk.ko") < archive.index(b"libcrc32c.ko") < archive.index(b"-xfs.ko")
    assert b"root-type\0" in archive
    assert b"xfs\n" in archive


def test_a_kernel_without_virtio_is_refused(tmp_path: Path) -> None:
    fill_root(tmp_path)
    (tmp_path / "usr/lib/modules" / KERNEL / "modules.dep").write_text("")
    with pytest.raises(Refused, match="has no module virtio_pci"):
        busybox_initrd(tmp_path, KERNEL)


def test_an_archive_is_laid_out_as_the_kernel_reads_it() -> None:
    archive = cpio([Entry(name="init", mode=stat.S_IFREG | 0o755, content=b"12345")])
    header = archive[:110]
    assert header[:6] == b"070701"
    assert (int(header[14:22], 16), int(header[54:62], 16), int(header[94:102], 16)) == (0o100755, 5, 5)
    assert archive[110:115] == b"init\0"
    assert archive[116:121] == b"12345"
    assert archive[124:130] == b"070701"
    assert b"TRAILER!!!" in archive
    assert len(archive) % 4 == 0
