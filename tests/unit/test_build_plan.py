"""What is decided before a build runs: what is wrong, what has to be done again after a change, what is read."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vcl_provision.channels.patience import Patience
from vcl_provision.images.builder import BuildSpec, Cache, plan_build, stages
from vcl_provision.images.builder import settling as settle
from vcl_provision.images.builder.checking import problems
from vcl_provision.images.builder.disks.loaders import Loader
from vcl_provision.images.builder.distributions import DISTRIBUTIONS
from vcl_provision.images.builder.distributions.debian import Debian
from vcl_provision.images.builder.distributions.ubuntu import Ubuntu
from vcl_provision.images.builder.passwords import read_passwords
from vcl_provision.images.builder.plan import Plan
from vcl_provision.images.builder.sources import host_sources, sources_of
from vcl_provision.images.builder.spec import (
    Accounts,
    Copied,
    Disks,
    Kernel,
    Machine,
    Network,
    Output,
    Packages,
    Scripts,
    Source,
    System,
    User,
)
from vcl_provision.model.faults import Ran, Refused

NONE = Path("/nowhere")
WRONG: Mapping[str, BuildSpec] = {
    "no distribution 'debain'; did you mean 'debian'": BuildSpec(distribution="debain"),
    "for amd64 here": BuildSpec(architecture="sparc"),
    "cannot be a suite": BuildSpec(suite="book worm"),
    "give one of them": BuildSpec(source=Source(mirrors=["http://a/b"], iso=NONE)),
    "is no mirror": BuildSpec(source=Source(mirrors=["gopher://old"])),
    "is no proxy": BuildSpec(source=Source(proxy="proxy:3128")),
    "is no package tree": BuildSpec(source=Source(tree=NONE)),
    "there is no file /nowhere": BuildSpec(source=Source(keyring=NONE)),
    "cannot be a package's name": BuildSpec(packages=Packages(add=["--allow-unauthenticated"])),
    "is no debconf seed": BuildSpec(packages=Packages(debconf=["too short"])),
    "cannot be a host name": BuildSpec(system=System(hostname="-x")),
    "did you mean 'Europe/Berlin'": BuildSpec(system=System(timezone="Europe/Berlni")),
    "is no locale": BuildSpec(system=System(locale="../../etc")),
    "is no keymap": BuildSpec(system=System(keymap="DE!")),
    "is there twice": BuildSpec(accounts=Accounts(users=[User(name="a"), User(name="a")])),
    "cannot be a user's name": BuildSpec(accounts=Accounts(users=[User(name="root")])),
    "cannot be a full name": BuildSpec(accounts=Accounts(users=[User(name="a", full_name="a:b")])),
    "cannot be a shell": BuildSpec(accounts=Accounts(users=[User(name="a", shell="bash")])),
    "cannot have the number 0": BuildSpec(accounts=Accounts(users=[User(name="a", uid=0)])),
    "it is never in a profile": BuildSpec(accounts=Accounts(root_password="letmein")),
    "only one password can be read": BuildSpec(
        accounts=Accounts(root_password="stdin", users=[User(name="a", password="stdin")])
    ),
    "neither a file nor a public key": BuildSpec(accounts=Accounts(root_keys=["ssh-nothing"])),
    "cannot be a group's name": BuildSpec(accounts=Accounts(groups={"A B": None})),
    "is no address with its prefix": BuildSpec(network=Network(addresses=["192.0.2.7"])),
    "'router' is no address": BuildSpec(network=Network(addresses=["192.0.2.7/24"], gateways=["router"])),
    "multicast": BuildSpec(network=Network(mac="01:00:5e:00:00:01")),
    "is no hardware address": BuildSpec(network=Network(mac="52-54-00")),
    "needs an address": BuildSpec(network=Network(gateways=["192.0.2.1"])),
    "kernel module": BuildSpec(kernel=Kernel(modules=["a b"])),
    "is one line": BuildSpec(kernel=Kernel(command_line="a\nb")),
    "is no size": BuildSpec(disks=Disks(root="large")),
    "cannot have 'fat'": BuildSpec(disks=Disks(filesystem="fat")),
    "no block device /nowhere": BuildSpec(disks=Disks(devices=[NONE])),
    "cannot read the layout file": BuildSpec(disks=Disks(layout=NONE)),
    "there is no /nowhere to copy": BuildSpec(files=[Copied(source=NONE, target="/srv")]),
    "is no place in the guest": BuildSpec(files=[Copied(source=Path("/etc"), target="/srv/../../etc")]),
    "is no mode": BuildSpec(files=[Copied(source=Path("/etc"), target="/srv", mode="rw")]),
    "is no owner": BuildSpec(files=[Copied(source=Path("/etc"), target="/srv", owner="me")]),
    "first-boot script /nowhere is not there": BuildSpec(scripts=Scripts(first_boot=NONE)),
    "does not begin with #!": BuildSpec(scripts=Scripts(inside=[Path("/etc/hostname")])),
    "no format 'qcow'; did you mean 'qcow2'": BuildSpec(output=Output(formats=["qcow"])),
    "needs a format": BuildSpec(output=Output(formats=[])),
    "no target 'kvm'": BuildSpec(output=Output(deployments=["kvm"])),
    "need a kernel to start": BuildSpec(output=Output(deployments=["script"]), kernel=Kernel(flavour="none")),
    "seconds since 1970": BuildSpec(source_date_epoch=-1),
    "has no apt": BuildSpec(distribution="busybox", packages=Packages(remove=["vim"])),
    "nothing here knows the keys of Ubuntu": BuildSpec(
        distribution="ubuntu", source=Source(mirrors=["http://mirror.example/ubuntu"])
    ),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_built_is_said_before_anything_runs(said: str) -> None:
    assert [problem for problem in problems(WRONG[said]) if said in problem], list(problems(WRONG[said]))
    with pytest.raises(Refused, match="this cannot be built"):
        plan_build(WRONG[said])


def test_all_that_is_wrong_is_said_at_once() -> None:
    spec = BuildSpec(
        suite="book worm",
        system=System(hostname="-x", timezone="Mars"),
        network=Network(mac="x"),
        disks=Disks(root="x"),
    )
    with pytest.raises(Refused) as refusal:
        plan_build(spec)
    assert refusal.value.said.count(";") == 4


def changed(plan: Plan, other: Plan) -> list[str]:
    """The stages that have to be done again."""
    found = ["base"] if [one.digest for one in plan.layers] != [one.digest for one in other.layers] else []
    found += ["guest"] if plan.guest != other.guest else []
    return found + (["disks"] if plan.disks != other.disks else [])


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (BuildSpec(about="other words"), []),
        (BuildSpec(machine=Machine(cpus=2)), []),
        (BuildSpec(output=Output(deployments=["script"])), []),
        (BuildSpec(output=Output(formats=["raw"])), ["disks"]),
        (BuildSpec(system=System(hostname="other")), ["guest", "disks"]),
        (BuildSpec(disks=Disks(root="9G")), ["guest", "disks"]),
        (BuildSpec(boot=Loader.UEFI), ["guest", "disks"]),
        (BuildSpec(packages=Packages(remove=["vim"])), ["guest", "disks"]),
        (BuildSpec(source=Source(guest=["http://mirror/debian"])), ["guest", "disks"]),
        (BuildSpec(packages=Packages(add=["vim"])), ["base", "guest", "disks"]),
        (BuildSpec(suite="trixie"), ["base", "guest", "disks"]),
    ],
)
def test_a_change_costs_the_stages_that_it_concerns(change: BuildSpec, again: Sequence[str]) -> None:
    assert changed(plan_build(BuildSpec()), plan_build(change)) == again


def test_a_changed_script_or_key_is_a_changed_guest(tmp_path: Path) -> None:
    script, key = tmp_path / "script", tmp_path / "key.pub"
    spec = BuildSpec(scripts=Scripts(inside=[script]), accounts=Accounts(root_keys=[str(key)]))
    plans: list[Plan] = []
    for script_text, key_text in (("true", "AAAA"), ("false", "AAAA"), ("true", "BBBB")):
        script.write_text(f"#!/bin/sh\n{script_text}\n")
        key.write_text(f"ssh-ed25519 {key_text} me\n")
        plans.append(plan_build(spec))
    assert len({plan.guest for plan in plans}) == 3


def test_a_plan_says_what_each_stage_does_and_asks_nothing_of_the_host(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    shown = stages(plan_build(BuildSpec(packages=Packages(add=["vim"]))), cache, Path("/srv/web1"))
    assert [stage.name for stage in shown] == ["storage", "base system", "configuration", "conversion", "deployment"]
    assert not any(stage.cached for stage in shown)
    said = "\n".join(sentence for stage in shown for sentence in stage.does)
    assert "/ ext4" in said
    assert "vim" in said
    assert "/srv/web1" in said
    assert not cache.folder.exists()


def test_an_ssh_key_brings_the_server_and_a_language_what_it_needs() -> None:
    accounts = Accounts(root_keys=["ssh-ed25519 AAAA me"])
    spec = BuildSpec(managed=False, accounts=accounts, system=System(locale="de_DE.UTF-8", keymap="de"))
    packages = plan_build(spec).layers[1].packages
    assert set(packages) == {"openssh-server", "locales", "console-setup", "keyboard-configuration", "kbd"}


def test_disks_bring_their_programs_also_those_of_a_layout_file(tmp_path: Path) -> None:
    layout = tmp_path / "disks.yaml"
    layout.write_text("""
disks:
  - partitions:
      - {mount: /, size: 2G, label: root, filesystem: xfs}
      - {filesystem: lvm, size: 2G, group: lab, volumes: [{mount: /srv, size: 1G, label: srv, filesystem: btrfs}]}
""")
    packages = plan_build(BuildSpec(disks=Disks(layout=layout))).layers[1].packages
    assert set(packages) == {"btrfs-progs", "lvm2", "xfsprogs"}
    assert plan_build(BuildSpec(disks=Disks(filesystem="xfs"))).layers[1].packages == ["xfsprogs"]


def test_what_is_removed_is_not_added_first() -> None:
    spec = BuildSpec(packages=Packages(add=["vim", "nano"], remove=["nano"]))
    assert list(plan_build(spec).layers[1].packages) == ["vim"]


PASSWORD = "a password"


def test_a_password_is_hashed_here_and_a_hash_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text(f"{PASSWORD}\nanother line\n")
    monkeypatch.setenv("OF_ROOT", "$6$salt$hashhashhash")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    users = [User(name="a", password=f"file:{tmp_path}/file"), User(name="b", password="stdin"), User(name="c")]
    spec = BuildSpec(accounts=Accounts(root_password="env:OF_ROOT", users=users))
    found = {name: hashed.reveal() for name, hashed in read_passwords(spec).items()}
    assert found["root"] == "$6$salt$hashhashhash"
    assert found["a"].startswith("$6$")
    assert found["b"].startswith("$6$")
    assert found["a"] != found["b"], "equal passwords must not show"
    assert set(found) == {"root", "a", "b"}
    assert PASSWORD not in str(found)


def test_a_password_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").write_text("\n")
    for source, said in (
        (f"file:{tmp_path}/none", "cannot be read"),
        (f"file:{tmp_path}/empty", "is empty"),
        ("env:NOT_SET_AT_ALL", "is empty"),
    ):
        with pytest.raises(Refused, match=said):
            read_passwords(BuildSpec(accounts=Accounts(root_password=source)))


def test_the_same_password_gives_the_same_build_in_one_cache_and_everywhere_with_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", PASSWORD)
    spec = BuildSpec(accounts=Accounts(root_password="env:PW"))
    here, there = Cache(tmp_path / "here"), Cache(tmp_path / "there")
    assert plan_build(spec, here).guest == plan_build(spec, here).guest
    assert plan_build(spec, here).guest != plan_build(spec, there).guest
    reproducible = replace(spec, source_date_epoch=1)
    assert plan_build(reproducible, here).guest == plan_build(reproducible, there).guest


def test_customs_are_taken_from_this_host_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locale").write_text('LANG="de_AT.UTF-8"\n')
    (tmp_path / "keyboard").write_text('XKBLAYOUT="at"\nXKBVARIANT="nodeadkeys"\n')
    (tmp_path / "zoneinfo/Europe").mkdir(parents=True)
    (tmp_path / "zoneinfo/Europe/Vienna").write_text("")
    (tmp_path / "localtime").symlink_to(tmp_path / "zoneinfo/Europe/Vienna")
    monkeypatch.setattr(settle, "_LOCALE_FILES", (tmp_path / "locale",))
    monkeypatch.setattr(settle, "_KEYBOARD", tmp_path / "keyboard")
    monkeypatch.setattr(settle, "_LOCALTIME", tmp_path / "localtime")
    spec = BuildSpec(system=System(locale="host", timezone="host", keymap="host"))
    system = settle.settled(spec).system
    assert (system.locale, system.timezone, system.keymap) == ("de_AT.UTF-8", "Europe/Vienna", "at nodeadkeys")
    (tmp_path / "keyboard").unlink()
    with pytest.raises(Refused, match="has no keymap"):
        settle.settled(spec)


KNOWN_TO_APT = """\
Debian|bookworm|main|deb http://mirror/debian/ bookworm main
Debian|bookworm|contrib|deb http://mirror/debian/ bookworm contrib
Debian|bookworm-security|main|deb http://mirror/security/ bookworm-security main
Debian|trixie|main|deb http://mirror/debian/ trixie main
Somebody|bookworm|main|deb http://elsewhere/ bookworm main
"""


class Apt:
    """A channel on which apt knows these archives."""

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
        assert argv[0] == "apt-get"
        return Ran(argv=argv, status=0, stdout=KNOWN_TO_APT)

    def put(self, path: str, content: bytes, *, mode: int, patience: Patience) -> None:
        raise AssertionError

    def close(self) -> None: ...


def test_packages_come_from_where_apt_takes_them_from() -> None:
    assert host_sources("Debian", "bookworm", ["main"], channel=Apt(), patience=Patience(60)) == [
        "deb http://mirror/debian/ bookworm main",
        "deb http://mirror/security/ bookworm-security main",
    ]
    with_contrib = host_sources("Debian", "bookworm", ["main", "contrib"], channel=Apt(), patience=Patience(60))
    assert len(with_contrib) == 3


def test_a_host_whose_apt_knows_no_such_archive_is_told_what_to_do() -> None:
    with pytest.raises(Refused, match="knows no Ubuntu noble") as refusal:
        host_sources("Ubuntu", "noble", ["main"], channel=Apt(), patience=Patience(60))
    assert "--mirror" in refusal.value.hint


@pytest.mark.parametrize(
    ("distribution", "source", "build", "guest"),
    [
        ("debian", Source(mirrors=["http://m/d"]), ["deb http://m/d bookworm main"], ["deb http://m/d bookworm main"]),
        (
            "ubuntu",
            Source(mirrors=["http://m/u"], components=["main", "universe"]),
            [f"deb http://m/u noble{more} main universe" for more in ("", "-updates", "-security")],
            [f"deb http://m/u noble{more} main universe" for more in ("", "-updates", "-security")],
        ),
        ("debian", Source(mirrors=["deb [arch=amd64] http://m/d x y"]), ["deb [arch=amd64] http://m/d x y"], None),
        (
            "debian",
            Source(tree=Path("/srv/tree"), guest=["http://m/d"]),
            ["deb [trusted=yes] copy:/srv/tree bookworm main"],
            ["deb http://m/d bookworm main"],
        ),
        ("debian", Source(tree=Path("/srv/tree")), ["deb [trusted=yes] copy:/srv/tree bookworm main"], []),
    ],
)
def test_sources_of_the_build_and_of_the_guest(
    distribution: str, source: Source, build: Sequence[str], guest: Sequence[str] | None
) -> None:
    known = {"debian": Debian(), "ubuntu": Ubuntu()}[distribution]
    spec = known.settled(BuildSpec(distribution=distribution, source=source))
    suites = known.mirror_suites(spec.suite)
    found = sources_of(spec, known.origin, suites, source.tree, channel=Apt(), patience=Patience(60))
    assert list(found.build) == build
    assert list(found.guest) == (build if guest is None else guest)


def test_ubuntu_names_its_kernels_in_its_own_way() -> None:
    ubuntu = DISTRIBUTIONS["ubuntu"]
    spec = ubuntu.settled(BuildSpec(distribution="ubuntu"))
    assert (spec.suite, spec.kernel.flavour) == ("noble", "virtual")
    assert "linux-image-virtual" in ubuntu.layers(spec)[0]
    assert "linux-image-cloud-amd64" in DISTRIBUTIONS["debian"].layers(DISTRIBUTIONS["debian"].settled(BuildSpec()))[0]


def test_the_cache_is_readable_for_its_owner_only(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert len(cache.salt) == 32
    assert cache.salt == Cache(tmp_path / "cache").salt
    assert os.stat(cache.folder).st_mode & 0o777 == 0o700  # noqa: PTH116 - a number, not a Path's
