"""What a machine is told, as cloud-init understands it: https://docs.cloud-init.io, data sources NoCloud and VMware."""

from __future__ import annotations

import json
from collections.abc import Mapping

from vcl_provision.images.firstboot import FirstBoot


def meta_data(firstboot: FirstBoot, *, more: Mapping[str, object] | None = None) -> str:
    """Who the machine is; nothing of it is secret. `more` is for a data source's own words."""
    return _yaml({"instance-id": firstboot.instance, "local-hostname": firstboot.hostname, **(more or {})})


def user_data(firstboot: FirstBoot) -> str:
    """A #cloud-config. Parameters become the files that guests without cloud-init make of them."""
    return "#cloud-config\n" + _yaml(_user_data(firstboot))


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
    if firstboot.parameters:
        told["write_files"] = [_file(name, value) for name, value in firstboot.parameters.items()]
    return told


def _file(name: str, content: str) -> Mapping[str, object]:
    return {"path": f"/etc/vcl/parameters/{name}", "permissions": "0600", "content": content}


def _yaml(value: object) -> str:
    """JSON, which is YAML too: nothing to quote wrongly, no library needed to write it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
