"""Builds, as programs ask for them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Audit, Channel
from vcl_provision.images.builder.cache import Cache
from vcl_provision.images.builder.deployment import Built
from vcl_provision.images.builder.pipeline import Build, Stages
from vcl_provision.images.builder.plan import ONE_WEEK, Plan, image_digest, plan_build
from vcl_provision.images.builder.spec import BuildSpec
from vcl_provision.images.repository import ImageDescriptor, Repository, remove_damaged, verify
from vcl_provision.images.repository.loose import read_loose, verify_loose
from vcl_provision.model.faults import Refused

AT_ONCE = 4
"""Builds of one cache that run at a time; the others wait."""

Say = Callable[[str], None]


def usual_cache() -> Path:
    """Where builds keep what they may need again: VCL_CACHE/builder, /var/cache for root, else ~/.cache."""
    if os.environ.get("VCL_CACHE"):
        return Path(os.environ["VCL_CACHE"]) / "builder"
    if os.geteuid() == 0:
        return Path("/var/cache/vcl-provision/builder")
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "vcl-provision/builder"


def build(
    spec: BuildSpec | Plan,
    target: Path,
    *,
    patience: Patience,
    cache: Path | None = None,
    overwrite: bool = False,
    max_age: float = ONE_WEEK,
    at_once: int = AT_ONCE,
    stages: Stages | None = None,
    audit: Audit | None = None,
    channel: Channel | None = None,
) -> Built:
    """Builds a machine's disks into a folder that is not there yet, or with `overwrite` in the place of an older image.

    `max_age`: seconds for which installed packages are taken from the cache. While `at_once` builds of this cache run,
    it waits. `stages` hears of each stage, `audit` of
    each command. As root, or as anybody where the kernel and /etc/subuid allow it.
    Raises Refused with everything that is wrong, before anything runs; CommandFailed, TimedOut, Cancelled.
    """
    kept = Cache(cache or usual_cache())
    kept.prepare()
    plan = spec if isinstance(spec, Plan) else plan_build(spec, kept)
    return Build(
        plan=plan,
        cache=kept,
        target=target.absolute(),
        overwrite=overwrite,
        max_age=max_age,
        at_once=at_once,
        channel=channel or LocalChannel(audit=audit),
        patience=patience,
        stages=stages or _silent,
        audit=audit,
    ).run()


def build_image(
    spec: BuildSpec,
    repository: Repository,
    *,
    name: str,
    image: str,
    revision: int,
    patience: Patience,
    say: Say,
    cache: Path | None = None,
) -> ImageDescriptor:
    """Makes a revision of an image, unless the repository has it, whole and of this spec; a damaged one is made again.

    Two that want the same image: one builds, the other waits. Raises as `build` and `Repository.add`; Refused too for a
    name that cannot be one, and a revision of this name from another spec, which may have machines on it.
    """
    kept = Cache(cache or usual_cache())
    plan = plan_build(spec, kept)
    digest = image_digest(plan)
    kept.prepare()
    with kept.locked("image", digest, patience):
        there = _whole_image(repository, name, digest, patience)
        if there is not None:
            return there
        with _scratch(repository, name) as folder:
            came = build(plan, folder, patience=patience, cache=kept.folder, stages=_said(say))
            for path in came.private_keys:
                say(f"every machine made of it will have the private key {path}")
            built = read_loose(folder)
            descriptor = replace(built.descriptor, name=name, image=image, revision=revision)
            repository.take_in(descriptor, built.files, patience=patience)
        return descriptor


def cached_image(spec: BuildSpec, cache: Path, *, patience: Patience, say: Say) -> Path:
    """The folder of the spec's image under a cache folder, built if need be. An edited spec has another one."""
    kept = Cache(cache / "builder")
    plan = plan_build(spec, kept)
    digest = image_digest(plan)
    folder = cache / f"{plan.spec.system.hostname}-{digest[:12]}"
    kept.prepare()
    with kept.locked("image", digest, patience):
        try:
            verify_loose(folder)
        except Refused:
            build(plan, folder, patience=patience, cache=kept.folder, overwrite=True, stages=_said(say))
    return folder


def spec_digest(spec: BuildSpec) -> str:
    """Names all that a spec's image follows from but the packages' versions; its description has it as `recipe`."""
    return image_digest(plan_build(spec, Cache(usual_cache())))


def _whole_image(repository: Repository, name: str, digest: str, patience: Patience) -> ImageDescriptor | None:
    """None if it has to be built. One that is damaged is no image; one from another spec may have machines on it."""
    if not repository.has(name):
        return None
    there = repository.get(name)
    if there.recipe != digest:
        said = f"{repository} has a revision {name} already, built from another recipe"
        raise Refused(said, "give the new one another name")
    faults = [each for each in verify(repository, [there], patience=patience) if each.fault]
    if faults:
        remove_damaged(repository, there, faults, patience=patience)
        return None
    return there


@contextmanager
def _scratch(repository: Repository, name: str) -> Generator[Path]:
    """A folder for the image until the repository has it."""
    there = repository.scratch_folder()
    there.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"build-{name}-", dir=there) as folder:
        yield Path(folder) / name


@contextmanager
def _silent(_: str) -> Generator[Say]:
    yield lambda _step: None


def _said(say: Say) -> Stages:
    """Stages that tell each step to somebody who hears one sentence at a time."""

    @contextmanager
    def stage(name: str) -> Generator[Say]:
        say(name)
        yield lambda step: say(f"{name}: {step}")

    return stage
