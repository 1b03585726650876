"""Is a spec one that can be built? Everything that is wrong, before anything runs."""

from __future__ import annotations

import difflib
import ipaddress
import re
import zoneinfo
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vcl_provision.images.builder.deploy.targets import Target, check_targets
from vcl_provision.images.builder.distributions import DISTRIBUTIONS
from vcl_provision.images.builder.layouts import layout_problems
from vcl_provision.images.builder.spec import HOST, BuildSpec, Copied, Initrd, User
from vcl_provision.images.firstboot import check_hostname
from vcl_provision.images.formats.words import DiskFormat
from vcl_provision.model.faults import Refused
from vcl_provision.model.options import nearest

FORMATS = [kind.value for kind in DiskFormat]
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?(?:/[a-z0-9-]+|=[A-Za-z0-9.+:~-]+)?")
_LOCALE = re.compile(r"[A-Za-z]{1,8}(?:_[A-Z]{2})?(?:\.[A-Za-z0-9-]+)?(?:@[a-z]+)?")
_KEYMAP = re.compile(r"[a-z]{2,8}(?:,[a-z]{2,8})*(?: [a-z0-9_-]+)?")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_MODE = re.compile(r"[0-7]{3,4}")
_OWNER = re.compile(r"[a-z0-9_-]+:[a-z0-9_-]+")
_URL = re.compile(r"(?:https?|ftp|file|copy)://?[!-~]+|deb (?:\[[ -~]+\] )?[!-~]+ [ -~]+")
_PROXY = re.compile(r"https?://[!-~]+")
_WORD = re.compile(r"[A-Za-z0-9_.:@=,/+-]+")
KEY_LINE = re.compile(r"(?:ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+(?: [ -~]*)?")
PASSWORD_FROM = re.compile(r"(?:file:.+|env:[A-Za-z_][A-Za-z0-9_]*|stdin)")


def check(spec: BuildSpec) -> None:
    """Raises Refused, naming everything that is wrong."""
    wrong = list(problems(spec))
    if wrong:
        raise Refused("this cannot be built: " + "; ".join(wrong), "nothing has been done yet")


def problems(spec: BuildSpec) -> Iterator[str]:
    """One sentence for each thing that is wrong."""
    if not re.fullmatch(r"(?:[a-z][a-z0-9-]{0,31})?", spec.purpose):
        yield f"{spec.purpose!r} cannot be a purpose: one word of small letters, digits and dashes"
    distribution = DISTRIBUTIONS.get(spec.distribution)
    if distribution is None:
        yield f"there is no distribution {spec.distribution!r}{nearest(spec.distribution, DISTRIBUTIONS)}"
    else:
        yield from distribution.problems(spec)
    yield from _of_source(spec)
    yield from _of_packages(spec)
    yield from _of_system(spec)
    yield from _of_accounts(spec)
    yield from _of_network(spec)
    yield from _of_kernel(spec)
    yield from layout_problems(spec)
    yield from _of_files(spec)
    yield from _of_output(spec)
    yield from _of_deployments(spec)


def _of_source(spec: BuildSpec) -> Iterator[str]:
    source = spec.source
    if sum((bool(source.mirrors), source.tree is not None, source.iso is not None)) > 1:
        yield "packages come from mirrors, from a tree or from an ISO: give one of them"
    for line in (*source.mirrors, *source.guest):
        if not _URL.fullmatch(line):
            yield f"{line!r} is no mirror: a URL, or a line of sources.list that begins with deb"
    if source.proxy and not _PROXY.fullmatch(source.proxy):
        yield f"{source.proxy!r} is no proxy: http://HOST:PORT"
    if source.tree is not None and not (source.tree / "dists").is_dir():
        yield f"{source.tree} is no package tree: it has no folder dists/"
    for file in (source.iso, source.keyring):
        if file is not None and not file.is_file():
            yield f"there is no file {file}"


def _of_packages(spec: BuildSpec) -> Iterator[str]:
    packages = spec.packages
    for name in (*packages.base, *packages.add, *packages.remove):
        if not _PACKAGE.fullmatch(name):
            yield f"{name!r} cannot be a package's name"
    for line in packages.debconf:
        if "\n" in line or len(line.split()) < 3:
            yield f"{line!r} is no debconf seed: it reads `package question type value`"


def _of_system(spec: BuildSpec) -> Iterator[str]:
    system = spec.system
    for name in filter(None, (system.hostname, system.domain)):
        try:
            check_hostname(name)
        except Refused as no:
            yield no.said
    if system.locale != HOST and not _LOCALE.fullmatch(system.locale):
        yield f"{system.locale!r} is no locale: it reads like de_DE.UTF-8"
    zones = zoneinfo.available_timezones()
    if zones and system.timezone != HOST and system.timezone not in zones:
        close = difflib.get_close_matches(system.timezone, zones, n=1)
        yield f"{system.timezone!r} is no time zone" + (f"; did you mean {close[0]!r}?" if close else "")
    if system.keymap not in {"", HOST} and not _KEYMAP.fullmatch(system.keymap):
        yield f"{system.keymap!r} is no keymap: a layout like de, or a layout and a variant like `de nodeadkeys`"


def _of_accounts(spec: BuildSpec) -> Iterator[str]:
    accounts = spec.accounts
    for name, count in Counter(user.name for user in accounts.users).items():
        if count > 1:
            yield f"the user {name} is there twice"
    for name, gid in accounts.groups.items():
        if not _USER.fullmatch(name):
            yield f"{name!r} cannot be a group's name"
        yield from _of_id("group", name, gid)
    yield from _of_password("root", accounts.root_password)
    yield from _of_keys("root", accounts.root_keys)
    for user in accounts.users:
        yield from _of_user(user)
    if sum(source == "stdin" for source in (accounts.root_password, *(u.password for u in accounts.users))) > 1:
        yield "only one password can be read from standard input"


def _of_user(user: User) -> Iterator[str]:
    if not _USER.fullmatch(user.name) or user.name == "root":
        yield f"{user.name!r} cannot be a user's name: small letters, digits, _ and -, at most 32"
    if ":" in user.full_name or any(ord(letter) < 32 for letter in user.full_name):
        yield f"{user.full_name!r} cannot be a full name: no colons, no control characters"
    if not user.shell.startswith("/") or not _WORD.fullmatch(user.shell):
        yield f"{user.shell!r} cannot be a shell: an absolute path"
    for group in user.groups:
        if not _USER.fullmatch(group):
            yield f"{group!r} cannot be a group's name"
    for number in (user.uid, user.gid):
        yield from _of_id("user", user.name, number)
    yield from _of_password(user.name, user.password)
    yield from _of_keys(user.name, user.keys)


def _of_id(what: str, name: str, number: int | None) -> Iterator[str]:
    if number is not None and not 0 < number < 65534:
        yield f"the {what} {name} cannot have the number {number}: 1 to 65533"


def _of_password(name: str, source: str) -> Iterator[str]:
    if source and not PASSWORD_FROM.fullmatch(source):
        yield f"the password of {name} comes from file:PATH, env:NAME or stdin; it is never in a profile"


def _of_keys(name: str, keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        if KEY_LINE.fullmatch(key):
            continue
        path = Path(key).expanduser()
        if not path.is_file():
            yield f"the ssh key of {name} {key[:60]!r} is neither a file nor a public key"
        elif "PRIVATE KEY" in path.read_text(encoding="utf-8", errors="replace"):
            yield f"{path} is a private key: give the public one, {path}.pub"


def _of_network(spec: BuildSpec) -> Iterator[str]:
    network = spec.network
    for text in network.addresses:
        try:
            if "/" not in text:
                raise ValueError  # noqa: TRY301 - the same sentence for both
            ipaddress.ip_interface(text)
        except ValueError:
            yield f"{text!r} is no address with its prefix length, like 192.0.2.7/24 or 2001:db8::7/64"
    for text in (*network.gateways, *network.dns):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            yield f"{text!r} is no address"
    if network.mac and not _MAC.fullmatch(network.mac.lower()):
        yield f"{network.mac!r} is no hardware address, like 52:54:00:12:34:56"
    elif network.mac and int(network.mac[:2], 16) & 1:
        yield f"{network.mac} is a multicast address: the first byte must be even"
    if network.gateways and not network.addresses:
        yield "a gateway needs an address of one's own"


def _of_kernel(spec: BuildSpec) -> Iterator[str]:
    kernel = spec.kernel
    if kernel.initrd is Initrd.BUSYBOX and spec.boot != "direct":
        yield "the busybox ram disk boots directly: take initramfs-tools"
    if any(ord(letter) < 32 for letter in kernel.command_line):
        yield "the kernel's command line is one line"
    for module in kernel.modules:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", module):
            yield f"{module!r} cannot be a kernel module's name"


def _of_files(spec: BuildSpec) -> Iterator[str]:
    for copied in spec.files:
        yield from _of_copied(copied)
    scripts: Mapping[str, Path | None] = {
        **{f"host script {number + 1}": path for number, path in enumerate(spec.scripts.host)},
        **{f"inside script {number + 1}": path for number, path in enumerate(spec.scripts.inside)},
        "first-boot script": spec.scripts.first_boot,
        "first-login script": spec.scripts.first_login,
    }
    for what, path in scripts.items():
        if path is not None and not path.is_file():
            yield f"the {what} {path} is not there"
        elif path is not None and not path.read_bytes().startswith(b"#!"):
            yield f"the {what} {path} does not begin with #!: nobody knows what runs it"


def _of_copied(copied: Copied) -> Iterator[str]:
    if not copied.source.exists() or copied.source == Path():
        yield f"there is no {copied.source} to copy"
    if not copied.target.startswith("/") or ".." in copied.target.split("/"):
        yield f"{copied.target!r} is no place in the guest: an absolute path"
    if copied.mode and not _MODE.fullmatch(copied.mode):
        yield f"{copied.mode!r} is no mode: octal, like 0644"
    if not _OWNER.fullmatch(copied.owner):
        yield f"{copied.owner!r} is no owner: USER:GROUP"


def _of_output(spec: BuildSpec) -> Iterator[str]:
    for name in spec.output.formats:
        if name not in FORMATS:
            yield f"there is no format {name!r}{nearest(name, FORMATS)}"
    if not spec.output.formats:
        yield "an image needs a format: " + ", ".join(FORMATS)
    if spec.source_date_epoch is not None and spec.source_date_epoch < 0:
        yield "source_date_epoch is seconds since 1970"
    if spec.machine.memory_mb < 64:
        yield f"{spec.machine.memory_mb} MiB of memory boot nothing"
    if spec.machine.cpus < 1:
        yield "a machine needs a processor"


def _of_deployments(spec: BuildSpec) -> Iterator[str]:
    """What of the deployments cannot be."""
    try:
        targets = check_targets(spec.output.deployments, spec.boot)
    except Refused as no:
        yield no.said
        return
    machines = [target for target in targets if target is not Target.TARBALL]
    if machines and spec.disks.devices:
        yield f"{', '.join(machines)} start a machine from files, not from devices"
    if machines and spec.kernel.flavour == "none":
        yield f"{', '.join(machines)} need a kernel to start"
