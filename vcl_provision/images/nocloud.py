"""First-boot data on a small disk: what cloud-init reads as NoCloud, and plain files for guests without it.

The disk is ISO 9660 with Rock Ridge and Joliet, labelled `cidata`: https://docs.cloud-init.io, data source NoCloud.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO

from pycdlib.pycdlib import PyCdlib

from vcl_provision.images.firstboot import FirstBoot

LABEL = "cidata"
_DIRECTORY, _FILE = 0o040500, 0o100400


def nocloud_iso(firstboot: FirstBoot) -> bytes:
    """The whole disk, some 70 KB. It holds the host's private key: keep it readable for the hypervisor only."""
    return _iso(nocloud_files(firstboot))


def nocloud_files(firstboot: FirstBoot) -> dict[str, str]:
    """What lies on the disk: path to content. `vcl/` is read by `guest/common/usr/lib/vcl/first-boot`."""
    plain = {
        "instance": firstboot.instance + "\n",
        "hostname": firstboot.hostname + "\n",
        "ssh_host_ed25519_key": firstboot.host_key_private.reveal(),
        "ssh_host_ed25519_key.pub": firstboot.host_key + "\n",
        "authorized_keys": "".join(line + "\n" for line in firstboot.management_keys),
        **{f"parameters/{name}": value for name, value in firstboot.parameters.items()},
    }
    if firstboot.root_password_hash:
        plain["root_password_hash"] = firstboot.root_password_hash.reveal() + "\n"
    return {
        "meta-data": _yaml(_meta_data(firstboot)),
        "user-data": "#cloud-config\n" + _yaml(_user_data(firstboot)),
        **{f"vcl/{path}": content for path, content in plain.items()},
    }


def _meta_data(firstboot: FirstBoot) -> Mapping[str, object]:
    return {
        "instance-id": firstboot.instance,
        "local-hostname": firstboot.hostname,
        "vcl": {"parameters": dict(firstboot.parameters)},
    }


def _user_data(firstboot: FirstBoot) -> Mapping[str, object]:
    """Root is the management account; naming it alone keeps cloud-init from making its default user with our keys."""
    told: dict[str, object] = {
        "hostname": firstboot.hostname,
        "manage_etc_hosts": "localhost",
        "ssh_deletekeys": True,
        "ssh_keys": {
            "ed25519_private": firstboot.host_key_private.reveal(),
            "ed25519_public": firstboot.host_key,
        },
        "disable_root": False,
        "users": [{"name": "root", "lock_passwd": False}],
        "ssh_authorized_keys": list(firstboot.management_keys),
    }
    if firstboot.root_password_hash:
        root = {"name": "root", "type": "hash", "password": firstboot.root_password_hash.reveal()}
        told["chpasswd"] = {"expire": False, "users": [root]}
    return told


def _yaml(value: object) -> str:
    """JSON, which is YAML too: nothing to quote wrongly, no library needed to write it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _iso(files: Mapping[str, str]) -> bytes:
    """Paths may have folders. Guests see the Rock Ridge or Joliet names; the ISO 9660 names only have to differ."""
    disk = PyCdlib()
    disk.new(interchange_level=3, vol_ident=LABEL, joliet=3, rock_ridge="1.09")
    folders = {"": ""}
    for number, (path, content) in enumerate(files.items()):
        folder, _, name = path.rpartition("/")
        _add_folder(disk, folders, folder)
        body = content.encode()
        iso_path = f"{folders[folder]}/F{number}.;1"
        disk.add_fp(BytesIO(body), len(body), iso_path, rr_name=name, joliet_path=f"/{path}", file_mode=_FILE)
    whole = BytesIO()
    disk.write_fp(whole)
    disk.close()
    return whole.getvalue()


def _add_folder(disk: PyCdlib, folders: dict[str, str], path: str) -> None:
    if path in folders:
        return
    parent, _, name = path.rpartition("/")
    _add_folder(disk, folders, parent)
    folders[path] = f"{folders[parent]}/D{len(folders)}"
    disk.add_directory(folders[path], rr_name=name, joliet_path=f"/{path}", file_mode=_DIRECTORY)
