"""Stock cloud-init understands what we tell it: its own schema, its own data sources, our own server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from a_firstboot import FIRSTBOOT
from a_pull import Heard, MemoryOffers
from fix_cloud_init import CloudInit

from vcl_provision.daemon.pull import PullServer
from vcl_provision.images.carriers.cloud_init import user_data
from vcl_provision.images.carriers.nocloud import nocloud_files
from vcl_provision.images.carriers.properties import guestinfo
from vcl_provision.images.carriers.pull import new_offer, pull_url
from vcl_provision.images.carriers.qemu import pull_serial
from vcl_provision.images.firstboot import FirstBoot

MAC = "52:54:00:aa:bb:0c"
RPCTOOL = """#!/bin/sh
# Stands in for open-vm-tools' program.
case $1 in
'info-get '*) cat "{folder}/${{1#info-get }}" 2> /dev/null || {{ echo 'No value found' >&2; exit 1; }} ;;
'info-set '*) set -- $1; printf %s "$3" > "{folder}/$2" ;;
esac
"""


def assert_told(learned: tuple[bool, Mapping[str, str], str], told: FirstBoot = FIRSTBOOT) -> None:
    found, meta, user = learned
    assert found
    assert (meta["instance-id"], meta["local-hostname"]) == (told.instance, told.hostname)
    assert yaml.safe_load(user) == yaml.safe_load(user_data(told))


@pytest.mark.parametrize("parameters", [{}, FIRSTBOOT.parameters])
def test_its_own_schema_finds_nothing_wrong(
    cloud_init: CloudInit, tmp_path: Path, parameters: Mapping[str, str]
) -> None:
    (tmp_path / "user-data").write_text(user_data(replace(FIRSTBOOT, parameters=parameters)))
    cloud_init.check(tmp_path / "user-data")


def test_its_own_schema_would_find_something(cloud_init: CloudInit, tmp_path: Path) -> None:
    (tmp_path / "user-data").write_text("#cloud-config\nssh_keys: 7\n")
    with pytest.raises(AssertionError, match="ssh_keys"):
        cloud_init.check(tmp_path / "user-data")


def test_it_is_told_by_the_disk(cloud_init: CloudInit, tmp_path: Path) -> None:
    """Its files, laid where it has those of a disk that it mounted."""
    for name in ("meta-data", "user-data"):
        file = tmp_path / "seed/nocloud" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(nocloud_files(FIRSTBOOT)[name], encoding="utf-8")
    assert_told(cloud_init.learns("disk", tmp_path))


def test_it_fetches_what_it_is_told_once(cloud_init: CloudInit, tmp_path: Path) -> None:
    offers, heard = MemoryOffers(), Heard()
    server = PullServer("127.0.0.1:0", offers, hear=heard)
    server.start()
    try:
        token, offer = new_offer(FIRSTBOOT, computer_id=1, mac=MAC, address="127.0.0.1")
        offers.offer(offer)
        url = pull_url(f"http://{server.address}", MAC, token)
        firmware = {"system-serial-number": pull_serial(url)}
        assert_told(cloud_init.learns("net", tmp_path, firmware=firmware))
    finally:
        server.stop()
    assert heard.said == ["fetched meta-data", "fetched user-data", "was told that there is no vendor-data"]


def test_it_is_told_by_vmwares_properties_and_has_them_forgotten(cloud_init: CloudInit, tmp_path: Path) -> None:
    for key, value in guestinfo(FIRSTBOOT).items():
        (tmp_path / key).write_text(value)
    program = tmp_path / "bin/vmware-rpctool"
    program.parent.mkdir()
    program.write_text(RPCTOOL.format(folder=tmp_path))
    program.chmod(0o755)
    firmware = {"system-product-name": "VMware Virtual Platform"}
    assert_told(cloud_init.learns("vmware", tmp_path, firmware=firmware, path=str(program.parent)))
    assert (tmp_path / "guestinfo.userdata").read_text() == "---"
