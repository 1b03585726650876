"""Profiles: what is written is what is built, what is wrong is named all at once, and nothing in one is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcl_provision.faces.cli import build_options
from vcl_provision.images.builder import (
    BuildSpec,
    load_profile,
    merged,
    plan_build,
    profile_names,
    read_spec,
    write_profile,
)
from vcl_provision.images.builder.plan import Plan
from vcl_provision.images.builder.profiles import find_profile, read_profile
from vcl_provision.images.builder.spec import Initrd
from vcl_provision.model.faults import Refused

EVERYTHING = """\
extends: server
suite: trixie
boot: uefi
source: {mirrors: ["http://mirror.example/debian"], components: [contrib], proxy: "http://proxy.example:3142"}
packages: {add: [sl], remove: [nano], debconf: ["tzdata tzdata/Areas select Europe"], left_out: ["/usr/share/doc/*"]}
system: {hostname: web1, domain: example.org, locale: de_DE.UTF-8, timezone: Europe/Berlin, keymap: "de nodeadkeys"}
accounts:
  root_password: "env:ROOT"
  groups: {lab: 5000, more: null}
  users:
    - {name: alice, full_name: Alice, uid: 1234, gid: 1234, groups: [lab], locked: true}
    - {name: bob}
network: {addresses: [192.0.2.7/24, "2001:db8::7/64"], gateways: [192.0.2.1], mac: 52:54:00:12:34:56}
kernel: {flavour: generic, modules: [xfs], command_line: "console=tty0"}
disks: {root: 4 GiB, swap: 512M, opt: 1G, table: gpt, filesystem: xfs}
files: [{source: a file, target: /srv/a, mode: 0600, owner: "alice:alice"}]
scripts: {inside: [script], host: [script], first_boot: script, first_login: script}
units: {enabled: [a.service], disabled: [b.timer], masked: [c.service]}
machine: {memory_mb: 1024, cpus: 2}
output: {formats: [raw, vmdk], deployments: [tarball]}
source_date_epoch: 1700000000
"""


@pytest.fixture
def everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile that uses every key, in a folder with the files that it names."""
    monkeypatch.setenv("ROOT", "a password")
    (tmp_path / "a file").write_text("a")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    profile = tmp_path / "everything.yaml"
    profile.write_text(EVERYTHING)
    return profile


def same(one: Plan, other: Plan) -> bool:
    return (one.layers, one.guest, one.disks, one.spec) == (other.layers, other.guest, other.disks, other.spec)


def test_a_saved_profile_gives_the_identical_plan(everything: Path, tmp_path: Path) -> None:
    spec = load_profile(str(everything))
    saved = tmp_path / "elsewhere/saved.yaml"
    saved.parent.mkdir()
    write_profile(spec, saved)
    again = load_profile(str(saved))
    assert again == spec
    assert same(plan_build(again), plan_build(spec))


def test_a_saved_profile_holds_no_password_and_replaces_nothing(everything: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.yaml"
    write_profile(load_profile(str(everything)), saved)
    assert "a password" not in saved.read_text()
    assert "env:ROOT" in saved.read_text()
    with pytest.raises(Refused, match="is there already"):
        write_profile(BuildSpec(), saved)


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_of_ours_can_be_built(name: str) -> None:
    spec = load_profile(name)
    assert spec.about
    assert plan_build(spec).layers


def test_the_profiles_begin_alike_so_that_what_one_installs_the_next_one_need_not() -> None:
    shared = {plan_build(load_profile(name)).layers[0].digest for name in profile_names() if name != "small"}
    assert len(shared) == 1


def test_lists_go_on_where_a_profile_extends_another_and_the_rest_is_replaced(everything: Path) -> None:
    spec = load_profile(str(everything))
    assert "tmux" in spec.packages.add
    assert spec.packages.add[-1] == "sl"
    assert spec.machine.memory_mb == 1024


def test_paths_are_relative_to_the_profile(everything: Path) -> None:
    spec = load_profile(str(everything))
    assert spec.scripts.first_boot == everything.parent / "script"
    assert spec.files[0].source == everything.parent / "a file"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("systm: {}", "did you mean 'system'"),
        ("system: {hostnam: a}", "did you mean 'hostname'"),
        ("packages: {add: vim}", "give a list"),
        ("accounts: {users: [{nam: alice}]}", "did you mean 'name'"),
        ("boot: floppy", "give one of direct, bios, uefi"),
        ("- a list", "holds no table"),
        ("a: b: c", "is no YAML"),
        ("extends: 7", "give the name or path of one profile"),
        ("extends: servr", "did you mean 'server'"),
        ("!!python/object/apply:os.system [true]", "is no YAML"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    profile = tmp_path / "wrong.yaml"
    profile.write_text(text)
    with pytest.raises(Refused, match=said):
        load_profile(str(profile))


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    profile = tmp_path / "wrong.yaml"
    profile.write_text("systm: {}\nsystem: {hostnam: a, hostname: [1]}\npackages: {add: vim}\n")
    with pytest.raises(Refused) as refusal:
        load_profile(str(profile))
    assert refusal.value.said.count(";") >= 3
    assert "packages add" in refusal.value.said


def test_a_profile_that_extends_itself_or_is_not_there_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text("extends: other.yaml")
    other.write_text("extends: one.yaml")
    with pytest.raises(Refused, match="extends itself"):
        load_profile(str(one))
    with pytest.raises(Refused, match="there is no profile"):
        find_profile(str(tmp_path / "none.yaml"))
    with pytest.raises(Refused, match="did you mean 'server'"):
        find_profile("sever")


def test_a_profile_of_a_gigabyte_is_none(tmp_path: Path) -> None:
    profile = tmp_path / "large.yaml"
    profile.write_bytes(b"a: " + b"x" * (2 << 20))
    with pytest.raises(Refused, match="more than 1 MiB"):
        read_profile(profile)


def test_each_option_of_the_command_line_reaches_its_key(tmp_path: Path) -> None:
    (tmp_path / "seeds").write_text("# a comment\nitem item/question select yes\n")
    (tmp_path / "list").write_text('"a file" /srv/a\n\nb /srv/b\n')
    given = {
        "hostname": "web1",
        "package": ["vim", "sl"],
        "debconf": str(tmp_path / "seeds"),
        "copy_list": str(tmp_path / "list"),
        "copy": ["c:/srv/c"],
        "user": "alice",
        "uid": 1234,
        "lock_user": True,
        "group": ["lab=5000", "more"],
        "ip": ["192.0.2.7/24"],
        "no_grow": True,
        "unmanaged": True,
        "format": ["raw"],
        "ssh_key": ["ssh-ed25519 AAAA"],
    }
    changed = build_options.changes(given)
    server = build_options.replaced(read_profile(find_profile("server")), changed)
    spec = read_spec(merged(server, changed), where="here")
    assert spec.system.hostname == "web1"
    assert spec.packages.add[-2:] == ("vim", "sl")
    assert spec.packages.debconf == ("item item/question select yes",)
    assert [copied.target for copied in spec.files] == ["/srv/c", "/srv/a", "/srv/b"]
    assert spec.files[1].source == Path.cwd() / "a file"
    user = spec.accounts.users[0]
    assert (user.name, user.uid, user.locked) == ("alice", 1234, True)
    assert spec.accounts.groups == {"lab": 5000, "more": None}
    assert (spec.grow, spec.managed) == (False, False)
    assert spec.output.formats == ("raw",)
    assert spec.accounts.root_keys == ("ssh-ed25519 AAAA",)


def test_options_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("one two three\n")
    for given, said in (
        ({"uid": 7}, "need --user"),
        ({"copy": ["nowhere"]}, "where to"),
        ({"copy_list": str(tmp_path / "list")}, "is no `SOURCE TARGET`"),
        ({"debconf": str(tmp_path / "none")}, "cannot be read"),
        ({"group": ["lab=many"]}, "is no number"),
    ):
        with pytest.raises(Refused, match=said):
            build_options.changes(given)


def test_every_key_of_a_spec_has_an_option_or_is_meant_for_profiles() -> None:
    """A key that nobody can give is a feature that went missing: VMBuilder lost three in that way."""
    only_in_profiles = {"about", "architecture", "variant", "purpose", "packages.base", "packages.left_out"}
    only_in_profiles |= {"kernel.initrd", "kernel.modules", "disks.features", "user.shell"}
    only_in_profiles |= {"units.enabled", "units.disabled", "units.masked"}
    options = {choice.key for choices in build_options.TABLE.values() for choice in choices}
    keys = {key.replace("accounts.users.", "user.") for key in _keys(BuildSpec)}
    assert keys - options == only_in_profiles & keys
    assert options <= keys


def _keys(options: type, prefix: str = "") -> set[str]:
    from dataclasses import fields, is_dataclass  # noqa: PLC0415 - only here
    from typing import get_args, get_type_hints  # noqa: PLC0415 - only here

    found: set[str] = set()
    hints = get_type_hints(options)
    for field in fields(options):  # type: ignore[arg-type] - a dataclass
        hint = hints[field.name]
        inner = next((one for one in (hint, *get_args(hint)) if isinstance(one, type) and is_dataclass(one)), None)
        name = f"{prefix}{field.name}"
        if inner is None or inner.__name__ == "Copied":
            found.add(name)
        else:
            found |= _keys(inner, f"{name}.")
    return found


def test_a_distribution_decides_what_a_spec_leaves_open() -> None:
    debian = plan_build(BuildSpec()).spec
    assert (debian.suite, debian.variant, debian.kernel.flavour) == ("bookworm", "minbase", "cloud")
    assert debian.kernel.initrd is Initrd.INITRAMFS_TOOLS
    busybox = plan_build(BuildSpec(distribution="busybox")).spec
    assert (busybox.variant, busybox.kernel.initrd) == ("essential", Initrd.BUSYBOX)
    assert plan_build(BuildSpec()).name == "debian-bookworm-amd64-vm"
