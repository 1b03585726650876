"""What a lab is made of: images, VM hosts, computers, users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from vcl_provision.model.secret import Secret
from vcl_provision.model.states import ComputerKind, ComputerState

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, kw_only=True)
class ConnectPort:
    """One port that a connect method needs open for the user: protocol is `tcp` or `udp`."""

    protocol: str
    port: int


@dataclass(frozen=True, kw_only=True)
class ConnectMethod:
    """How a user gets in: ssh, RDP; `service` is what must run inside, empty if it always does."""

    name: str
    service: str = ""
    ports: Sequence[ConnectPort] = ()


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One revision of an image: what is loaded.

    `name` is the folder in the repository (`debian12-v3`), `image` the image's own name (`debian12`).
    `os_module` says who drives what runs inside. `min_ram_mb` in MiB. `sudo`: the image lets its users be root.
    """

    id: int
    image_id: int
    image: str
    revision: int
    name: str
    os: str
    os_module: str
    min_ram_mb: int = 512
    min_cpus: int = 1
    production: bool = True
    sudo: bool = False
    set_hostname: bool = True
    check_user: bool = True
    load_seconds: int = 600
    connect_methods: Sequence[ConnectMethod] = ()


@dataclass(frozen=True, kw_only=True)
class VmProfile:
    """How machines on a VM host are made. `overrides` are the module's own words, checked by the module."""

    name: str
    repository_path: str
    datastore_path: str
    vm_path: str
    network: str = ""
    overrides: Mapping[str, object] = field(default_factory=dict[str, object])
    credentials: str = ""
    """Where the credentials are, never themselves: `file:PATH` or `env:NAME`."""
    keep_free_mb: int | None = None
    """MiB that loads leave free on the disks of both paths; None: the usual part (model.space)."""


@dataclass(frozen=True, kw_only=True)
class VmHost:
    """A hypervisor: `address` is the module's own word for how it is reached (a URI, a host name)."""

    id: int
    name: str
    address: str
    profile: VmProfile
    provisioning_module: str


@dataclass(frozen=True, kw_only=True)
class Computer:
    """Something that can be given to a user. `name` is also the name of its slot on the VM host.

    `private_address` is where the management node reaches it, `public_address` where its user does.
    `host_key` is the public ssh host key that it was given at load (`ssh-ed25519 AAAA...`), empty before.
    `loaded_revision_id`, `prepared` (post-load done) and `tainted` (a user could have been in) are what we recorded;
    the machine itself is asked as well.
    """

    id: int
    name: str
    kind: ComputerKind
    state: ComputerState
    provisioning_module: str
    private_address: Address
    public_address: Address | None = None
    mac: str = ""
    ram_mb: int = 1024
    cpus: int = 1
    host: VmHost | None = None
    host_key: str = ""
    loaded_revision_id: int | None = None
    prepared: bool = False
    tainted: bool = False


@dataclass(frozen=True, kw_only=True)
class User:
    """Who gets in: `name` is the account inside the machine; keys are lines of `authorized_keys`."""

    id: int
    name: str
    affiliation: str
    keys: Sequence[str] = ()
    password: Secret | None = None
    uid: int | None = None
