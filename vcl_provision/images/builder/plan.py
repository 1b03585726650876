"""What a build will do: stages that can be looked at before anything runs, each with the digest of all that goes in."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vcl_provision.images.builder.accounts import key_lines
from vcl_provision.images.builder.cache import Cache, digest_of
from vcl_provision.images.builder.checking import check
from vcl_provision.images.builder.disks.layout import MIB, Layout
from vcl_provision.images.builder.distributions import DISTRIBUTIONS, Distribution
from vcl_provision.images.builder.layouts import layout_of
from vcl_provision.images.builder.passwords import read_passwords
from vcl_provision.images.builder.settling import default_name, settled
from vcl_provision.images.builder.spec import BuildSpec, Disks, Machine, Output, Packages, Source
from vcl_provision.images.builder.tree import files_below
from vcl_provision.images.builder.trees import GUEST_TREES
from vcl_provision.model.duration import spoken
from vcl_provision.model.secret import Secret

_HERE = Path(__file__).parent
_OF_BASE = ("distributions/apt.py", "sources.py")
_OF_GUEST = (
    "accounts.py",
    "configuration.py",
    "initrd.py",
    "layouts.py",
    "machine_keys.py",
    "once.py",
    "tree.py",
    "disks/prepare.py",
    "disks/fstab.py",
    "disks/grub.py",
)
ONE_WEEK = 7 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Packages that are installed together, and the digest of all that the result follows from."""

    packages: Sequence[str]
    digest: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage, for people: `does` are sentences, `cached` whether its result is there already."""

    name: str
    does: Sequence[str]
    cached: bool
    digest: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A build, decided: the spec with nothing left open, its disks, the digests of its stages."""

    spec: BuildSpec
    layout: Layout
    layers: Sequence[Layer]
    guest: str
    disks: str
    passwords: Mapping[str, Secret] = field(repr=False)

    @property
    def distribution(self) -> Distribution:
        return DISTRIBUTIONS[self.spec.distribution]

    @property
    def name(self) -> str:
        """What the target is called if nobody says otherwise."""
        return default_name(self.spec)


def plan_build(spec: BuildSpec, cache: Cache | None = None) -> Plan:
    """Checks the spec and decides what it leaves open. Reads its passwords; runs nothing.

    Without a cache, passwords that are hashed here have another hash each time. Raises Refused, naming everything that
    is wrong.
    """
    check(spec)
    spec = settled(spec)
    check(spec)
    passwords = read_passwords(spec, cache)
    layers = list(_layers(spec))
    layout = layout_of(spec)
    guest = _guest_digest(spec, layout, layers[-1].digest, passwords)
    return Plan(
        spec=spec,
        layout=layout,
        layers=layers,
        guest=guest,
        disks=digest_of("disks", guest, spec.output.formats),
        passwords=passwords,
    )


def image_digest(plan: Plan) -> str:
    """Names everything that the image follows from but the packages' versions."""
    return digest_of(plan.disks, dataclasses.asdict(plan.spec.machine), plan.spec.purpose)


def identity_of(plan: Plan) -> str:
    """What the random numbers in disks' own files follow from; empty where the bytes need not be the same again."""
    return plan.disks if plan.spec.source_date_epoch is not None else ""


def _layers(spec: BuildSpec) -> Iterator[Layer]:
    code = [_HERE / name for name in _OF_BASE]
    source = dataclasses.replace(spec.source, guest=())
    parts = (spec.distribution, spec.suite, spec.architecture, spec.variant, spec.source_date_epoch)
    about = digest_of(parts, dataclasses.asdict(source), _local(source), spec.packages.debconf, spec.packages.left_out)
    digest = digest_of(about, files=[*code, *([source.keyring] if source.keyring else [])])
    for packages in DISTRIBUTIONS[spec.distribution].layers(spec):
        digest = digest_of("layer", digest, packages)
        yield Layer(packages=packages, digest=digest)


def _local(source: Source) -> Sequence[object]:
    """What tells that a local tree or ISO has changed: its indices, or its size and time."""
    if source.tree is not None:
        return [
            digest_of(files=sorted((source.tree / "dists").rglob("*Release")) + sorted(source.tree.rglob("Packages*")))
        ]
    if source.iso is not None:
        status = source.iso.stat()
        return [str(source.iso), status.st_size, status.st_mtime_ns]
    return []


def _guest_digest(spec: BuildSpec, layout: Layout, base: str, passwords: Mapping[str, Secret]) -> str:
    told = dataclasses.replace(
        spec,
        about="",
        purpose="",
        output=Output(),
        machine=Machine(),
        disks=Disks(),
        packages=Packages(remove=spec.packages.remove),
    )
    secrets = hashlib.sha256(
        "\n".join(f"{name}:{one.reveal()}" for name, one in passwords.items()).encode()
    ).hexdigest()
    keys = [key_lines(keys) for keys in (spec.accounts.root_keys, *(user.keys for user in spec.accounts.users))]
    return digest_of("guest", base, dataclasses.asdict(told), layout, secrets, keys, files=_files(spec))


def _files(spec: BuildSpec) -> Iterator[Path]:
    for name in _OF_GUEST:
        yield _HERE / name
    yield from files_below(_HERE / "distributions")
    yield from files_below(GUEST_TREES)
    for copied in spec.files:
        yield from files_below(copied.source)
    scripts = spec.scripts
    yield from (*scripts.host, *scripts.inside)
    yield from (one for one in (scripts.first_boot, scripts.first_login) if one is not None)


def stages(plan: Plan, cache: Cache, target: Path, *, max_age: float = ONE_WEEK) -> Sequence[Stage]:
    """The plan for people: what each stage does, and whether it has to."""
    spec = plan.spec
    base = all(cache.has("base", layer.digest, max_age=max_age) for layer in plan.layers)
    return [
        Stage(name="storage", does=list(_storage(plan)), cached=False, digest=digest_of(plan.layout)),
        Stage(name="base system", does=list(_base(plan, cache)), cached=base, digest=plan.layers[-1].digest),
        Stage(
            name="configuration",
            does=list(_configuration(spec)),
            cached=cache.has("guest", plan.guest),
            digest=plan.guest,
        ),
        Stage(
            name="conversion", does=list(_conversion(spec)), cached=cache.has("disks", plan.disks), digest=plan.disks
        ),
        Stage(name="deployment", does=list(_deployment(spec, target)), cached=False, digest=""),
    ]


def _storage(plan: Plan) -> Iterator[str]:
    for number, disk in enumerate(plan.layout.disks):
        where = f" on {plan.spec.disks.devices[number]}" if plan.spec.disks.devices else ""
        parts = ", ".join(
            f"{part.mount or part.filesystem} {part.filesystem}" + (f" {part.size // MIB} MiB" if part.size else "")
            for part in disk.partitions
        )
        size = f" of {disk.size // MIB} MiB" if disk.size else ""
        yield f"disk {number + 1}{where}{size}, table {disk.table}: {parts}"


def _base(plan: Plan, cache: Cache) -> Iterator[str]:
    spec = plan.spec
    source = (
        spec.source.iso or spec.source.tree or ", ".join(spec.source.mirrors) or "where apt on this host takes them"
    )
    yield f"{spec.distribution} {spec.suite} {spec.architecture} ({spec.variant}), packages from {source}"
    for layer in plan.layers:
        kept = f"; kept from {spoken(cache.age('base', layer.digest))} ago" if cache.has("base", layer.digest) else ""
        yield f"{len(layer.packages)} packages and what they need: {' '.join(layer.packages)}{kept}"


def _configuration(spec: BuildSpec) -> Iterator[str]:
    system, accounts = spec.system, spec.accounts
    yield f"host name {system.hostname}, locale {system.locale}, time zone {system.timezone}"
    yield f"network: {', '.join(spec.network.addresses) or 'DHCP'}"
    for user in accounts.users:
        yield f"user {user.name}" + (", locked" if user.locked else "")
    yield f"root {'has a password' if accounts.root_password else 'has no password'}, {len(accounts.root_keys)} key(s)"
    yield from (f"copy {copied.source} to {copied.target}" for copied in spec.files)
    yield from (f"run {script} inside" for script in spec.scripts.inside)
    yield from (f"run {script} on this host" for script in spec.scripts.host)
    if spec.packages.remove:
        yield f"remove {' '.join(spec.packages.remove)}"


def _conversion(spec: BuildSpec) -> Iterator[str]:
    disks = spec.disks.devices or spec.output.formats
    yield f"boot: {spec.boot}; {', '.join(str(disk) for disk in disks)}"


def _deployment(spec: BuildSpec, target: Path) -> Iterator[str]:
    yield f"into {target}" + (f", with {', '.join(spec.output.deployments)}" if spec.output.deployments else "")
