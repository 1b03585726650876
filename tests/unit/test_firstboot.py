"""What a machine is told at its first boot: what is refused, and what the disk that carries it holds."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
import yaml
from a_firstboot import FIRSTBOOT, HASH, HOST
from pycdlib.pycdlib import PyCdlib

from vcl_provision.images.carriers.nocloud import nocloud_files, nocloud_iso
from vcl_provision.images.firstboot import FirstBoot
from vcl_provision.model.faults import Refused
from vcl_provision.model.secret import Secret


@contextmanager
def disk(firstboot: FirstBoot) -> Generator[PyCdlib]:
    opened = PyCdlib()
    opened.open_fp(BytesIO(nocloud_iso(firstboot)))
    try:
        yield opened
    finally:
        opened.close()


def read(firstboot: FirstBoot, path: str, *, names: str = "rr_path") -> str:
    with disk(firstboot) as opened:
        content = BytesIO()
        opened.get_file_from_iso_fp(content, **{names: f"/{path}"})
        return content.getvalue().decode()


def told(firstboot: FirstBoot, path: str) -> Any:
    return yaml.safe_load(read(firstboot, path))


@pytest.mark.parametrize(
    "name",
    [
        *("", "-vm", "vm-", "vm_17", "vm 17", "vm\n17", "vm17\n", "vm;reboot", "$(reboot)", "../etc", "vm.", ".vm"),
        *("v" * 64, "a." * 32 + "b", "výuka", "a..b"),
    ],
)
def test_a_host_name_that_no_machine_can_have_is_refused_by_name(name: str) -> None:
    with pytest.raises(Refused, match="cannot be a host name") as refusal:
        replace(FIRSTBOOT, hostname=name)
    assert repr(name) in refusal.value.said
    assert refusal.value.hint


@pytest.mark.parametrize("name", ["a", "VM17", "vm-17", "vm17.lab.example.org", "1", "v" * 63])
def test_host_names_that_are_in_use_are_taken(name: str) -> None:
    assert replace(FIRSTBOOT, hostname=name).hostname == name


@pytest.mark.parametrize(
    "change",
    [
        {"instance": "a b"},
        {"instance": ""},
        {"host_key": "ssh-rsa AAAA"},
        {"host_key": HOST.public + "\nssh-ed25519 AAAA"},
        {"management_keys": ["ssh-ed25519 AAAA\nssh-ed25519 BBBB"]},
        {"management_keys": [""]},
        {"root_password_hash": Secret("password")},
        {"root_password_hash": Secret("$6$x:0:0\nalice:y")},
        {"parameters": {"../../etc/passwd": "x"}},
        {"parameters": {"1st": "x"}},
        {"parameters": {"a": "\x00"}},
        {"parameters": {"a": "\u2028"}},
    ],
)
def test_what_could_break_out_of_its_place_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refusal:
        replace(FIRSTBOOT, **change)
    assert refusal.value.hint


def test_a_refused_password_hash_is_not_repeated() -> None:
    with pytest.raises(Refused) as refusal:
        replace(FIRSTBOOT, root_password_hash=Secret("hunter2"))
    assert "hunter2" not in refusal.value.said + refusal.value.hint


def test_the_disk_is_labelled_as_cloud_init_expects_it() -> None:
    with disk(FIRSTBOOT) as opened:
        assert opened.pvd.volume_identifier.decode().strip() == "cidata"
        assert opened.has_joliet()
        assert opened.has_rock_ridge()


def test_cloud_init_is_told_who_the_machine_is() -> None:
    meta = told(FIRSTBOOT, "meta-data")
    assert (meta["instance-id"], meta["local-hostname"]) == ("r17-4c1d", "vm17")


def test_cloud_init_makes_the_same_files_of_parameters_as_our_own_guests() -> None:
    written = told(FIRSTBOOT, "user-data")["write_files"]
    assert {file["path"]: file["content"] for file in written} == {
        f"/etc/vcl/parameters/{name}": value for name, value in FIRSTBOOT.parameters.items()
    }
    assert {file["permissions"] for file in written} == {"0600"}


def test_who_the_machine_is_is_all_that_is_said_in_the_open() -> None:
    assert set(told(FIRSTBOOT, "meta-data")) == {"instance-id", "local-hostname"}


def test_cloud_init_is_told_the_keys_and_makes_no_user_of_its_own() -> None:
    assert read(FIRSTBOOT, "user-data").startswith("#cloud-config\n")
    user = told(FIRSTBOOT, "user-data")
    assert user["ssh_keys"] == {"ed25519_private": HOST.private.reveal(), "ed25519_public": HOST.public}
    assert user["ssh_authorized_keys"] == FIRSTBOOT.management_keys
    assert user["chpasswd"]["users"] == [{"name": "root", "type": "hash", "password": HASH}]
    assert (user["disable_root"], user["ssh_deletekeys"]) == (False, True)
    assert [one["name"] for one in user["users"]] == ["root"]
    assert "ssh_pwauth" not in user


def test_a_guest_without_cloud_init_finds_the_same_in_plain_files() -> None:
    assert read(FIRSTBOOT, "vcl/hostname") == "vm17\n"
    assert read(FIRSTBOOT, "vcl/instance") == "r17-4c1d\n"
    assert read(FIRSTBOOT, "vcl/ssh_host_ed25519_key") == HOST.private.reveal()
    assert read(FIRSTBOOT, "vcl/ssh_host_ed25519_key.pub") == HOST.public + "\n"
    assert read(FIRSTBOOT, "vcl/authorized_keys").splitlines() == FIRSTBOOT.management_keys
    assert read(FIRSTBOOT, "vcl/root_password_hash") == HASH + "\n"
    assert read(FIRSTBOOT, "vcl/parameters/greeting") == FIRSTBOOT.parameters["greeting"]
    assert not read(FIRSTBOOT, "vcl/parameters/EMPTY")


def test_a_guest_that_knows_joliet_only_finds_them_too() -> None:
    assert read(FIRSTBOOT, "vcl/ssh_host_ed25519_key.pub", names="joliet_path") == HOST.public + "\n"
    assert read(FIRSTBOOT, "user-data", names="joliet_path") == read(FIRSTBOOT, "user-data")


def test_what_is_not_given_is_not_on_the_disk() -> None:
    bare = replace(FIRSTBOOT, root_password_hash=None, parameters={}, management_keys=[])
    assert not {"chpasswd", "write_files"} & set(told(bare, "user-data"))
    assert not read(bare, "vcl/authorized_keys")
    assert not [path for path in nocloud_files(bare) if "password" in path or "parameters" in path]


def test_no_secret_shows_when_the_value_is_printed() -> None:
    assert HASH not in repr(FIRSTBOOT)
    assert "PRIVATE KEY" not in repr(FIRSTBOOT)
