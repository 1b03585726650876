"""A plan carried out: storage, base system, configuration, conversion, deployment, each from the cache if it can be."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vcl_provision.channels.namespace import PrivateNamespace
from vcl_provision.channels.patience import Patience
from vcl_provision.channels.runner import Audit, Channel
from vcl_provision.images.builder.cache import Cache, digest_of, remove_tree
from vcl_provision.images.builder.configuration import configure, kernel_version
from vcl_provision.images.builder.conversion import convert
from vcl_provision.images.builder.deploy.targets import check_targets
from vcl_provision.images.builder.deploy.targets import tools as start_tools
from vcl_provision.images.builder.deployment import Built, deploy
from vcl_provision.images.builder.disks.prepare import prepare_root
from vcl_provision.images.builder.disks.writing import check_disks
from vcl_provision.images.builder.disks.writing import tools as disk_tools
from vcl_provision.images.builder.distributions import Guest
from vcl_provision.images.builder.distributions.apt import UNPACK
from vcl_provision.images.builder.host import BuildHost, Chroot
from vcl_provision.images.builder.iso import unpack_tree
from vcl_provision.images.builder.machine_keys import private_keys
from vcl_provision.images.builder.plan import Layer, Plan
from vcl_provision.images.builder.starting import lay_what_starts
from vcl_provision.images.builder.targets import check_target
from vcl_provision.images.builder.tree import RootTree
from vcl_provision.images.hosttools import require_host

Say = Callable[[str], None]
Stages = Callable[[str], AbstractContextManager[Say]]
"""Makes the frame of a stage: entered with its name, gives what says the steps in it."""

_CONVERTING = {"qemu-img": "qemu-utils", "mke2fs": "e2fsprogs"}
_REMOVING = 120.0


@dataclass
class Build:
    """One run of a plan. `channel` is this host's; what needs root runs in a namespace of its own, made when needed."""

    plan: Plan
    cache: Cache
    target: Path
    overwrite: bool
    max_age: float
    at_once: int
    channel: Channel
    patience: Patience
    stages: Stages
    audit: Audit | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def rootless(self) -> bool:
        return os.geteuid() != 0

    def run(self) -> Built:
        """All stages. Whatever ends it leaves finished stages in the cache, and nothing else."""
        with self.cache.slot(self.at_once, self.patience):
            return self._run()

    def _run(self) -> Built:
        plan = self.plan
        with self._stage("storage"):
            self._check_host()
        with self._stage("base system") as say:
            base = self._base(say)
        with self._stage("configuration") as say:
            guest = self._guest(base, say)
        with self.cache.locked("disks", plan.disks, self.patience):
            with self._stage("conversion") as say:
                disks = self._disks(guest, say)
            with self._stage("deployment") as say:
                built = deploy(
                    plan,
                    disks,
                    self.target,
                    start=lambda folder: self._lay_what_starts(guest, folder, say),
                    channel=self.channel,
                    patience=self.patience,
                    say=say,
                )
                self._remove(disks)
        self.cache.forget_unused(self._remove, now=time.time())
        return built

    def _check_host(self) -> None:
        plan = self.plan
        tools = {
            **plan.distribution.tools(plan.spec),
            **disk_tools(plan.layout, plan.spec.boot),
            **start_tools(check_targets(plan.spec.output.deployments, plan.spec.boot)),
            **_CONVERTING,
        }
        if self.rootless:
            tools["newuidmap"] = "uidmap"
        require_host(tools, for_what="building an image", channel=self.channel, patience=self.patience, root=False)
        check_target(self.target, overwrite=self.overwrite)
        devices = plan.spec.disks.devices
        if devices:
            check_disks(
                plan.layout,
                devices,
                seed=plan.guest,
                overwrite=self.overwrite,
                channel=self.channel,
                patience=self.patience,
            )

    def _base(self, say: Say) -> Path:
        """The archive of the system with all layers."""
        tree = self._package_tree(say)
        first, *more = self.plan.layers
        system = self._layer(first, None, tree, say)
        for layer in more:
            system = self._layer(layer, system, tree, say)
        return system

    def _layer(self, layer: Layer, below: Path | None, tree: Path | None, say: Say) -> Path:
        def install(folder: Path) -> None:
            say(f"{len(layer.packages)} packages" + (" more" if below else ""))
            with self._host() as host:
                self.plan.distribution.install(
                    self.plan.spec, layer.packages, onto=below, tree=tree, into=folder / "root.tar", host=host
                )

        return self._made("base", layer.digest, install, max_age=self.max_age) / "root.tar"

    def _package_tree(self, say: Say) -> Path | None:
        source = self.plan.spec.source
        if source.iso is None:
            return source.tree
        iso, status = source.iso, source.iso.stat()

        def unpack(folder: Path) -> None:
            say(f"unpacking {iso.name}")
            unpack_tree(iso, folder)

        return self._made("iso", digest_of(str(iso), status.st_size, status.st_mtime_ns), unpack)

    def _guest(self, base: Path, say: Say) -> Path:
        """The folder with the configured tree (`root`), its package list and what is to be known of it."""

        def fill(folder: Path) -> None:
            say("unpacking")
            root = folder / "root"
            root.mkdir()
            with self._host() as host:
                host.run(*UNPACK, "-C", str(root), "-f", str(base), name="unpack the base system")
                self._configure(host, folder, say)

        return self._made("guest", self.plan.guest, fill)

    def _configure(self, host: BuildHost, folder: Path, say: Say) -> None:
        plan, root = self.plan, folder / "root"
        moment = plan.spec.source_date_epoch or int(time.time())
        guest = Guest(spec=plan.spec, tree=RootTree(root), inside=Chroot(host=host, root=root, epoch=moment))
        configure(guest, plan.distribution, plan.layout, plan.passwords, say)
        (folder / "packages.txt").write_text(plan.distribution.packages(guest), encoding="utf-8")
        facts = {
            "os": plan.distribution.system_name(guest),
            "moment": moment,
            "kernel": "",
            "private_keys": private_keys(guest),
        }
        if plan.spec.kernel.flavour != "none":
            facts["kernel"] = kernel_version(guest)
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        if self.rootless:
            # whoever builds may not touch the times of what belongs to others inside
            newer = ("find", str(root), "-xdev", "-newermt", f"@{moment}")
            host.run(*newer, "-exec", "touch", "-h", "-d", f"@{moment}", "{}", "+", name="set back times in the guest")
        prepare_root(
            plan.layout,
            root,
            seed=plan.guest,
            moment=moment,
            loader=plan.spec.boot,
            command_line=plan.spec.kernel.command_line,
        )

    def _disks(self, guest: Path, say: Say) -> Path:
        """The folder with disks, kernel, first ram disk. Its lock is held."""

        def fill(folder: Path) -> None:
            with self._host() as host:
                convert(self.plan, guest, folder, overwrite=self.overwrite, host=host, say=say)

        if self.cache.has("disks", self.plan.disks) and not self.plan.spec.disks.devices:
            return self.cache.used("disks", self.plan.disks)
        return self.cache.make("disks", self.plan.disks, fill, self._remove)

    def _lay_what_starts(self, guest: Path, folder: Path, say: Say) -> str:
        if not self.plan.spec.output.deployments:
            return ""
        with self._host() as host:
            return lay_what_starts(self.plan, guest, folder, self.target, host=host, say=say)

    def _made(self, stage: str, digest: str, fill: Callable[[Path], None], *, max_age: float = float("inf")) -> Path:
        """From the cache, or made now. Two that make the same: one does, the other waits, and takes over if it dies."""
        with self.cache.locked(stage, digest, self.patience):
            if self.cache.has(stage, digest, max_age=max_age):
                return self.cache.used(stage, digest)
            return self.cache.make(stage, digest, fill, self._remove)

    @contextmanager
    def _stage(self, name: str) -> Generator[Say]:
        began = time.monotonic()
        with self.stages(name) as say:
            yield say
        self.seconds[name] = time.monotonic() - began

    @contextmanager
    def _host(self) -> Generator[BuildHost]:
        with PrivateNamespace(rootless=self.rootless, audit=self.audit) as channel:
            yield BuildHost(
                channel=channel, patience=self.patience, archives=self.cache.archives, rootless=self.rootless
            )

    def _remove(self, folder: Path) -> None:
        """Also what belongs to ids that only the namespace has."""
        try:
            remove_tree(folder)
        except PermissionError:
            with PrivateNamespace(rootless=self.rootless) as channel:
                channel.run(("rm", "-rf", "--one-file-system", str(folder)), patience=Patience(_REMOVING))
