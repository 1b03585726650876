"""First-boot data on a small read-only disk: what cloud-init reads as NoCloud, and plain files for guests without it.

The disk is ISO 9660 with Rock Ridge and Joliet, labelled `cidata`: https://docs.cloud-init.io, data source NoCloud.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

from pycdlib.pycdlib import PyCdlib

from vcl_provision.images.carriers.cloud_init import meta_data, user_data
from vcl_provision.images.carriers.plain import OURS, plain_files
from vcl_provision.images.firstboot import FirstBoot

LABEL = "cidata"
_DIRECTORY, _FILE = 0o040500, 0o100400


def nocloud_iso(firstboot: FirstBoot) -> bytes:
    """The whole disk, some 70 KB. It holds the host's private key: keep it readable for the hypervisor only."""
    return _iso(nocloud_files(firstboot))


def nocloud_files(firstboot: FirstBoot) -> dict[str, str]:
    """What lies on the disk: path to content. `vcl/` is for guests without cloud-init."""
    return {
        "meta-data": meta_data(firstboot),
        "user-data": user_data(firstboot),
        **{f"{OURS}{path}": content for path, content in plain_files(firstboot).items()},
    }


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
