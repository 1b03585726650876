"""The ways in which a machine learns what it is told at its first boot: one description, several carriers.

Push, written beside the machine before it starts: `nocloud` and `vfat` (a disk as cloud-init wants it), `bootparams` (a
disk that stays, rewritten between two boots), `qemu` (fw_cfg, SMBIOS), `properties` (VMware, VirtualBox).
Pull, fetched by the machine: `pull` (HTTP, a token for once). What each is good for: docs/first-boot.md.
"""
