"""From a recipe to an image in a repository: whole, or not there."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Channel
from vcl_provision.images.debian import finish_root, make_root
from vcl_provision.images.hosttools import ARCHITECTURE, require_host
from vcl_provision.images.initrd import busybox_initrd
from vcl_provision.images.manifest import NAME as MANIFEST
from vcl_provision.images.manifest import ImageManifest, Role, describe_file, read_manifest, verify, write_manifest
from vcl_provision.images.recipes import ROOT_LABEL, Initrd, Recipe
from vcl_provision.model.faults import Refused

TOOLS = {
    "apt-get": "apt",
    "apt-config": "apt",
    "chroot": "coreutils",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
}
Say = Callable[[str], None]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def build_image(
    recipe: Recipe, repository: Path, *, name: str = "", channel: Channel, patience: Patience, say: Say
) -> ImageManifest:
    """Makes `repository/name` (the recipe's name if none is given), unless it is there, whole and of this recipe.

    `say` hears one sentence per stage. Two that build the same image: one does, the other waits. A build that fails or
    is killed leaves nothing that looks like an image. Raises Refused (missing programs, not root, an image of this
    name from another recipe), CommandFailed, TimedOut, Cancelled.
    """
    name = name or recipe.name
    if not _NAME.fullmatch(name):
        raise Refused(f"{name!r} cannot be an image's name", "letters, digits, dots, dashes, at most 128")
    repository.mkdir(parents=True, exist_ok=True)
    with _only_builder(repository / f".{name}.lock", patience):
        there = _whole_image(repository / name, recipe)
        if there is not None:
            return there
        require_host(TOOLS, for_what="building an image", channel=channel, patience=patience)
        return _build(recipe, repository / name, channel, patience, say)


def cached_image(recipe: Recipe, cache: Path, *, channel: Channel, patience: Patience, say: Say) -> Path:
    """The folder of the recipe's image under a cache folder, built if need be. An edited recipe has another one."""
    repository = cache / f"{recipe.name}-{recipe.digest[:12]}"
    build_image(recipe, repository, channel=channel, patience=patience, say=say)
    return repository / recipe.name


def _whole_image(folder: Path, recipe: Recipe) -> ImageManifest | None:
    """None if it has to be built. One that is damaged is no image; one from another recipe may have machines on it."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = verify(folder)
    except Refused:
        return None
    if manifest.recipe != recipe.digest:
        raise Refused(f"{folder} is there already, built from another recipe", "give the new image another name")
    return manifest


def _build(recipe: Recipe, target: Path, channel: Channel, patience: Patience, say: Say) -> ImageManifest:
    work = target.with_name(f".{target.name}.building")
    _remove(work)
    try:
        image = work / "image"
        image.mkdir(parents=True)
        say(f"installing {recipe.os} from Debian's packages")
        root = make_root(recipe, work, channel=channel, patience=patience)
        say("adding first-boot, ssh and network settings")
        finish_root(recipe, root, channel=channel, patience=patience)
        say("taking the kernel and its first ram disk")
        _take_kernel(recipe, root, image, channel, patience)
        say("writing the disk")
        _write_disk(recipe, root, image / "disk.qcow2", channel, patience)
        say("writing checksums")
        _describe(recipe, target.name, image)
        _remove(target)
        image.rename(target)
    finally:
        _remove(work)
    return read_manifest(target)


def _take_kernel(recipe: Recipe, root: Path, image: Path, channel: Channel, patience: Patience) -> None:
    kernel = max((root / "boot").glob("vmlinuz-*"))
    version = kernel.name.removeprefix("vmlinuz-")
    shutil.copyfile(kernel, image / "vmlinuz")
    if recipe.initrd is Initrd.BUSYBOX:
        (image / "initrd.img").write_bytes(busybox_initrd(root, version))
    else:
        channel.run(("chroot", str(root), "update-initramfs", "-c", "-k", version), patience=patience)
        shutil.copyfile(root / f"boot/initrd.img-{version}", image / "initrd.img")


def _write_disk(recipe: Recipe, root: Path, disk: Path, channel: Channel, patience: Patience) -> None:
    """mke2fs fills the file system itself: nothing is mounted, no loop device is needed."""
    raw = root.with_name("disk.raw")
    with raw.open("wb") as file:
        file.truncate(recipe.disk_bytes)
    features = ("-O", ",".join(recipe.filesystem)) if recipe.filesystem else ()
    # Nothing lazy: each clone's kernel would write it all over its own disk in the background.
    lazy = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
    argv = ("mke2fs", "-q", "-t", "ext4", "-L", ROOT_LABEL, *features, *lazy, "-d", str(root), str(raw))
    channel.run(argv, patience=patience)
    channel.run(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)), patience=patience)


def _describe(recipe: Recipe, name: str, image: Path) -> None:
    files = (
        describe_file(image / "disk.qcow2", Role.DISK, "qcow2"),
        describe_file(image / "vmlinuz", Role.KERNEL, "raw"),
        describe_file(image / "initrd.img", Role.INITRD, "raw"),
    )
    manifest = ImageManifest(
        name=name,
        os=recipe.os,
        architecture=ARCHITECTURE,
        kernel_command_line=recipe.kernel_command_line,
        min_memory_mb=recipe.min_memory_mb,
        virtual_size_bytes=recipe.disk_bytes,
        files=files,
        recipe=recipe.digest,
    )
    write_manifest(image, manifest)


@contextmanager
def _only_builder(lock: Path, patience: Patience) -> Generator[None]:
    """The kernel lets go of the lock when its holder dies, however it dies."""
    with lock.open("w") as file:
        patience.until(lambda: _locked(file.fileno()), f"another build to let go of {lock}")
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(folder: Path) -> None:
    """mmdebstrap mounts in a namespace of its own; should a mount be left here all the same, it is not followed."""
    if not folder.exists():
        return
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    if f" {folder.resolve()}/" in mounts:
        raise Refused(f"something is mounted under {folder}", f"unmount it: grep {folder} /proc/mounts")
    shutil.rmtree(folder)
