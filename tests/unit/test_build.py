"""Building an image, with a host that only pretends: what is asked of it, what is left when it fails."""

from __future__ import annotations

import fcntl
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vcl_provision.channels.patience import Patience
from vcl_provision.images.build import TOOLS, build_image, cached_image
from vcl_provision.images.debian import debian_sources
from vcl_provision.images.initrd import Entry, busybox_initrd, cpio
from vcl_provision.images.manifest import verify
from vcl_provision.images.recipes import DEBIAN12, RECIPES, SMALL, Recipe, find_recipe
from vcl_provision.model.faults import CommandFailed, Ran, Refused, TimedOut

KERNEL = "6.1.0-99-cloud-amd64"
KNOWN_TO_APT = """\
Debian|bookworm|main|deb http://mirror/debian/ bookworm main
Debian|bookworm|contrib|deb http://mirror/debian/ bookworm contrib
Debian|bookworm-security|main|deb http://mirror/security/ bookworm-security main
Debian|trixie|main|deb http://mirror/debian/ trixie main
Somebody|bookworm|main|deb http://elsewhere/ bookworm main
"""
APT_SETTINGS = 'APT::Architecture "amd64";\nAcquire::http::Proxy "http://proxy:3142";\nAcquire::Languages "none";\n'
MODULES_DEP = """\
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
"""


def fill_root(root: Path) -> None:
    """What mmdebstrap would leave, as far as the rest of the build looks at it."""
    modules = root / "usr/lib/modules" / KERNEL
    content = {
        "usr/bin/busybox": "busybox",
        "usr/sbin/sshd": "sshd",
        f"boot/vmlinuz-{KERNEL}": "kernel",
        f"boot/initrd.img-{KERNEL}": "Debian's first ram disk",
        "etc/ssh/ssh_host_ed25519_key": "the builder's",
        "etc/apt/apt.conf.d/99mmdebstrap": "the host's proxy",
        "etc/resolv.conf": "the host's",
        "etc/machine-id": "the builder's",
        "var/log/dpkg.log": "long",
        **{f"usr/lib/modules/{KERNEL}/{line.partition(':')[0]}": line for line in MODULES_DEP.splitlines()},
    }
    for path, text in content.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (modules / "modules.dep").write_text(MODULES_DEP)
    (modules / "modules.builtin").write_text("kernel/drivers/virtio/virtio_mmio.ko\n")


class PretendedHost:
    """A channel to a host that has everything, but what is said to be `missing`; `failing` ends with status 1."""

    def __init__(
        self, *, missing: Sequence[str] = (), uid: int = 0, failing: str = "", known: str = KNOWN_TO_APT
    ) -> None:
        self._answers: dict[str, str] = {
            "look for programs": "\n".join([str(uid), "x86_64", *missing]),
            "apt-get": known,
            "apt-config": APT_SETTINGS,
        }
        self._failing = failing
        self.ran: list[Sequence[str]] = []
        self.given: list[bytes] = []
        self.root_seen: Callable[[Path], None] = lambda _root: None

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
        self.ran.append(argv)
        self.given.append(stdin)
        ran = Ran(argv=argv, status=0, stdout=self._answers.get(name or argv[0], ""))
        if "mmdebstrap" in argv and name != "look for programs":
            fill_root(Path(argv[-2]))
        if argv[0] == "mke2fs":
            self.root_seen(Path(argv[-2]))
        if argv[:2] == ("qemu-img", "convert"):
            Path(argv[-1]).write_bytes(b"a disk")
        if self._failing and self._failing in argv:
            raise CommandFailed("it failed", ran=ran)
        return ran

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        raise AssertionError

    def close(self) -> None: ...

    def programs(self) -> set[str]:
        return {word for argv in self.ran for word in argv[:3]}


def build(host: PretendedHost, into: Path, recipe: Recipe = SMALL, *, seconds: float = 60, name: str = "") -> None:
    build_image(recipe, into, name=name, channel=host, patience=Patience(seconds), say=lambda _stage: None)


def left(repository: Path) -> list[str]:
    return sorted(path.name for path in repository.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_built_image_is_whole_and_says_how_it_boots(tmp_path: Path, recipe: Recipe) -> None:
    build(PretendedHost(), tmp_path, recipe, name="image-v1")
    manifest = verify(tmp_path / "image-v1")
    assert manifest.name == "image-v1"
    assert [file.name for file in manifest.files] == ["disk.qcow2", "vmlinuz", "initrd.img"]
    assert manifest.kernel_command_line == recipe.kernel_command_line
    assert manifest.recipe == recipe.digest
    assert left(tmp_path) == ["image-v1"]


def test_a_whole_image_is_not_built_again(tmp_path: Path) -> None:
    build(PretendedHost(), tmp_path)
    again = PretendedHost()
    build(again, tmp_path)
    assert not again.ran


def test_a_damaged_image_is_built_again(tmp_path: Path) -> None:
    build(PretendedHost(), tmp_path)
    (tmp_path / "small/disk.qcow2").write_bytes(b"half")
    build(PretendedHost(), tmp_path)
    verify(tmp_path / "small")


def test_an_image_from_another_recipe_is_left_alone(tmp_path: Path) -> None:
    build(PretendedHost(), tmp_path)
    host = PretendedHost()
    with pytest.raises(Refused, match="another recipe"):
        build(host, tmp_path, replace(SMALL, min_memory_mb=256))
    assert not host.ran
    verify(tmp_path / "small")


def test_an_edited_recipe_has_an_image_of_its_own_in_a_cache(tmp_path: Path) -> None:
    folders = {
        cached_image(recipe, tmp_path, channel=PretendedHost(), patience=Patience(60), say=lambda _stage: None)
        for recipe in (SMALL, SMALL, replace(SMALL, packages=(*SMALL.packages, "vim")))
    }
    assert len(folders) == 2
    assert all(verify(folder) for folder in folders)


@pytest.mark.parametrize("failing", ["mmdebstrap", "mke2fs", "qemu-img"])
def test_a_build_that_fails_leaves_nothing(tmp_path: Path, failing: str) -> None:
    with pytest.raises(CommandFailed):
        build(PretendedHost(failing=failing), tmp_path)
    assert left(tmp_path) == []


def test_what_a_killed_build_left_is_no_image_and_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".small.building/root/etc").mkdir(parents=True)
    (tmp_path / "small").mkdir()
    (tmp_path / "small/disk.qcow2").write_bytes(b"no manifest beside it")
    build(PretendedHost(), tmp_path)
    assert left(tmp_path) == ["small"]
    verify(tmp_path / "small")


def test_missing_programs_are_named_all_at_once_before_anything_runs(tmp_path: Path) -> None:
    host = PretendedHost(missing=["mmdebstrap", "qemu-img"])
    with pytest.raises(Refused) as refusal:
        build(host, tmp_path)
    assert "mmdebstrap (package mmdebstrap), qemu-img (package qemu-utils)" in refusal.value.said
    assert refusal.value.hint == "apt-get install --no-install-recommends mmdebstrap qemu-utils"
    assert len(host.ran) == 1


def test_every_program_that_a_build_runs_is_looked_for_first(tmp_path: Path) -> None:
    host = PretendedHost()
    build(host, tmp_path, DEBIAN12)
    assert set(TOOLS) <= host.programs()


def test_whoever_is_not_root_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="needs root"):
        build(PretendedHost(uid=1000), tmp_path)


@pytest.mark.parametrize("name", ["../small", "small/..", ".small", "a b", "a" * 129])
def test_a_name_that_leaves_the_repository_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="cannot be an image's name"):
        build(PretendedHost(), tmp_path / "repository", name=name)


def test_one_builds_and_the_others_wait_for_it(tmp_path: Path) -> None:
    with (tmp_path / ".small.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimedOut, match="another build"):
            build(PretendedHost(), tmp_path, seconds=0)
    build(PretendedHost(), tmp_path)
    verify(tmp_path / "small")


def test_packages_come_from_where_apt_takes_debian_from() -> None:
    host = PretendedHost()
    assert debian_sources("bookworm", channel=host, patience=Patience(60)) == [
        "deb http://mirror/debian/ bookworm main",
        "deb http://mirror/security/ bookworm-security main",
    ]


def test_a_host_whose_apt_knows_no_debian_is_told_what_to_do() -> None:
    unknown = PretendedHost(known="Ubuntu|noble|main|deb http://mirror/ubuntu/ noble main\n")
    with pytest.raises(Refused, match="knows no Debian bookworm") as refusal:
        debian_sources("bookworm", channel=unknown, patience=Patience(60))
    assert "apt-get update" in refusal.value.hint


def test_the_hosts_proxy_is_used_and_does_not_stay_in_the_guest(tmp_path: Path) -> None:
    host = PretendedHost()
    options: list[str] = []

    def look(root: Path) -> None:
        options.append((root.parent / "apt.conf").read_text())
        assert not (root / "etc/apt/apt.conf.d/99mmdebstrap").exists()

    host.root_seen = look
    build(host, tmp_path)
    assert 'Acquire::http::Proxy "http://proxy:3142";' in options[0]
    assert "Languages" not in options[0]


def test_no_identity_of_the_build_stays_in_a_guest(tmp_path: Path) -> None:
    seen: list[bool] = []

    def look(root: Path) -> None:
        assert not list((root / "etc/ssh").glob("ssh_host_*"))
        assert not (root / "etc/machine-id").read_text()
        assert (root / "etc/hostname").read_text() == "debian12\n"
        assert (root / "etc/resolv.conf").is_symlink()
        assert not (root / "var/log/dpkg.log").exists()
        seen.append(True)

    host = PretendedHost()
    host.root_seen = look
    build(host, tmp_path, DEBIAN12)
    assert seen


def test_what_is_laid_into_a_guest_runs_if_it_is_a_script(tmp_path: Path) -> None:
    modes: dict[str, int] = {}

    def look(root: Path) -> None:
        for path in ("usr/lib/vcl/first-boot", "etc/ssh/sshd_config.d/vcl.conf"):
            modes[path] = stat.S_IMODE((root / path).stat().st_mode)

    host = PretendedHost()
    host.root_seen = look
    build(host, tmp_path)
    assert modes == {"usr/lib/vcl/first-boot": 0o755, "etc/ssh/sshd_config.d/vcl.conf": 0o644}


def test_modules_are_loaded_after_those_that_they_need(tmp_path: Path) -> None:
    fill_root(tmp_path)
    archive = busybox_initrd(tmp_path, KERNEL)
    places = [archive.index(name) for name in (b"virtio_ring.ko", b"virtio.ko", b"virtio_pci.ko", b"virtio_blk.ko")]
    assert places == sorted(places)
    assert b"virtio_mmio" not in archive


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


def test_an_unknown_recipe_is_refused_with_those_that_there_are() -> None:
    assert find_recipe("debian12") is DEBIAN12
    with pytest.raises(Refused, match="no recipe 'debian13'") as refusal:
        find_recipe("debian13")
    assert "debian12, small" in refusal.value.hint
