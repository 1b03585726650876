"""How a machine gets what it is told at its first boot: the carrier that its VM profile names, made ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vcl_provision.drivers import (
    FirstBoot,
    Task,
    bootparams_image,
    fw_cfg_file,
    fw_cfg_secrets,
    nocloud_iso,
    nocloud_vfat,
    oem_strings,
    pull_serial,
)

from . import volumes
from .binding import libvirt
from .machine import Carried


class Carrier:
    """Makes what one machine is told ready, in the files of its owner."""

    def __init__(self, connection: libvirt.virConnect, pool: libvirt.virStoragePool, task: Task, *, mac: str) -> None:
        self._connection, self._pool, self._task, self._mac = connection, pool, task, mac

    def carry(self, word: str, firstboot: FirstBoot) -> Carried:
        """By the carrier of this name, one of `hardware`'s. Raises Refused where it cannot hold all of it."""
        carriers: Mapping[str, Callable[[FirstBoot], Carried]] = {
            "nocloud": self._nocloud,
            "vfat": self._vfat,
            "bootparams": self._bootparams,
            "fw_cfg": self._fw_cfg,
            "smbios": self._smbios,
            "pull": self._pull,
        }
        return carriers[word](firstboot)

    def _nocloud(self, firstboot: FirstBoot) -> Carried:
        return Carried(seed=self._file(volumes.SEED, nocloud_iso(firstboot)), optical=True)

    def _vfat(self, firstboot: FirstBoot) -> Carried:
        disk = nocloud_vfat(firstboot, channel=self._task.local, patience=self._task.patience)
        return Carried(seed=self._file(volumes.SEED_DISK, disk))

    def _bootparams(self, firstboot: FirstBoot) -> Carried:
        disk = bootparams_image(firstboot, channel=self._task.local, patience=self._task.patience)
        return Carried(seed=self._file(volumes.SEED_DISK, disk))

    def _fw_cfg(self, firstboot: FirstBoot) -> Carried:
        return Carried(fw_cfg=self._file(volumes.FW_CFG, fw_cfg_file(firstboot).encode()))

    def _smbios(self, firstboot: FirstBoot) -> Carried:
        """The strings can be read by anybody on the VM host: keys and password go another way."""
        secrets = self._file(volumes.FW_CFG, fw_cfg_secrets(firstboot).encode())
        return Carried(oem_strings=oem_strings(firstboot), fw_cfg=secrets)

    def _pull(self, firstboot: FirstBoot) -> Carried:
        task = self._task
        url = task.pull.offer(task.computer, firstboot, mac=self._mac, patience=task.patience)
        return Carried(serial=pull_serial(url))

    def _file(self, kind: str, content: bytes) -> str:
        return volumes.put_bytes(self._connection, self._pool, volumes.file_name(self._task.owner, kind), content)
