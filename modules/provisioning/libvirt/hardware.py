"""What a VM profile may say about the machines made from it: each word checked before it reaches a description."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches

from vcl_provision.drivers import Refused, VmProfile


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The overrides of a VM profile; every default is what a Linux guest does best with.

    `accelerator` kvm, tcg or auto (a real boot decides), empty: the module's setting. `machine` is QEMU's machine type.
    `cpu_mode` empty: host-model under KVM, maximum under TCG. `cache` of the system
    disk. `extra_memory_mb` on top of the computer's. `console`: `log` keeps on the VM host what the guest writes to its
    serial port, `pty` does not, `none` has no port. `first_boot` is the carrier of what the machine is told. `video`
    none, or a card shown by VNC on the VM host's own 127.0.0.1.
    """

    accelerator: str = ""
    machine: str = "pc"
    cpu_mode: str = ""
    bus: str = "virtio"
    nic_model: str = "virtio"
    cache: str = "writeback"
    extra_memory_mb: int = 0
    console: str = "log"
    first_boot: str = "nocloud"
    video: str = "none"


_WORDS: Mapping[str, frozenset[str]] = {
    "accelerator": frozenset({"", "auto", "kvm", "tcg"}),
    "cpu_mode": frozenset({"", "host-model", "host-passthrough", "maximum"}),
    "bus": frozenset({"virtio", "sata", "ide", "scsi", "usb"}),
    "nic_model": frozenset({"virtio", "e1000", "e1000e", "rtl8139", "vmxnet3"}),
    "cache": frozenset({"none", "writeback", "writethrough", "directsync", "unsafe", "default"}),
    "console": frozenset({"log", "pty", "none"}),
    "first_boot": frozenset({"nocloud", "vfat", "bootparams", "fw_cfg", "smbios", "pull"}),
    "video": frozenset({"none", "virtio", "vga", "qxl", "cirrus"}),
}
_SMALL_DISKS, _THEIR_BUSES = {"vfat", "bootparams"}, {"virtio", "scsi", "usb"}
"""What has sectors of 512 bytes is no CD, and QEMU's IDE and SATA disks cannot be read-only."""
_MACHINE = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")


def hardware_of(profile: VmProfile) -> Hardware:
    """Raises Refused for an override that is unknown or has a value it cannot have; the hint says what it may be."""
    known = {field.name for field in fields(Hardware)}
    for name, value in profile.overrides.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise Refused(f"VM profile {profile.name} has an unknown override {name!r}", hint)
        _check(profile, name, value)
    hardware = Hardware(**profile.overrides)  # type: ignore[arg-type]  # each value was checked just now
    if hardware.first_boot in _SMALL_DISKS and hardware.bus not in _THEIR_BUSES:
        said = f"VM profile {profile.name} cannot have first_boot {hardware.first_boot!r} on the bus {hardware.bus}"
        raise Refused(said, f"take first_boot nocloud, or one of the buses {', '.join(sorted(_THEIR_BUSES))}")
    return hardware


def _check(profile: VmProfile, name: str, value: object) -> None:
    allowed, hint = _rule(name)
    if not allowed(value):
        raise Refused(f"VM profile {profile.name} has {value!r} as override {name!r}", hint)


def _rule(name: str) -> tuple[Callable[[object], bool], str]:
    if name == "extra_memory_mb":
        return _is_memory, "a whole number of MiB, at least 0"
    if name == "machine":
        return _is_machine, "a machine type as `qemu-system-x86_64 -machine help` lists them"
    words = _WORDS[name]
    return lambda value: isinstance(value, str) and value in words, f"it may be {', '.join(sorted(words - {''}))}"


def _is_memory(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1 << 24


def _is_machine(value: object) -> bool:
    return isinstance(value, str) and bool(_MACHINE.fullmatch(value))
