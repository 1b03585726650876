"""The names that VMware, VirtualBox and OVF have for what runs in a machine.

Sources: CIM_OperatingSystem.OSType (the numbers of an OVF); VMware's VirtualMachineGuestOsIdentifier with the hardware
version that each came with; `VBoxManage list ostypes` of VirtualBox 7.2. All are the 64-bit ones of x86.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GuestOs:
    """One operating system. `word` is ours, `said` for people, `pattern` finds it in a description.

    `vmware` holds VMware's names by the first hardware version that knows them, oldest first: an older host would not
    start a machine with a newer name.
    """

    word: str
    said: str
    pattern: str
    cim: int
    vmware: Mapping[int, str]
    virtualbox: str

    def vmx_word(self, hardware: int) -> str:
        """What `guestOS` of a .vmx is for this hardware version: `debian10-64`."""
        known = [name for since, name in self.vmware.items() if since <= hardware]
        return known[-1] if known else next(iter(self.vmware.values()))

    def api_word(self, hardware: int) -> str:
        """The same as vSphere's API and its OVF have it: `debian10_64Guest`."""
        name = self.vmx_word(hardware)
        return name.removesuffix("-64") + ("_64Guest" if name[-4].isdigit() else "64Guest")


OTHER = GuestOs(word="other", said="Other (64-bit)", pattern="", cim=102, vmware={4: "other-64"}, virtualbox="Other_64")
LINUX = GuestOs(
    word="linux",
    said="Linux (64-bit)",
    pattern=r"linux",
    cim=101,
    vmware={9: "other3xlinux-64", 14: "other4xlinux-64", 17: "other5xlinux-64", 20: "other6xlinux-64"},
    virtualbox="Linux26_64",
)

_DEBIAN = {10: "debian7-64", 11: "debian8-64", 13: "debian10-64", 17: "debian11-64", 20: "debian12-64"}
_RED_HAT = {10: "rhel7-64", 14: "rhel8-64", 18: "rhel9-64"}

SYSTEMS = (
    *(
        GuestOs(
            word=f"debian{release}",
            said=f"Debian GNU/Linux {release} (64-bit)",
            pattern=rf"debian\D*{release}\b|debian{release}_64",
            cim=96,
            vmware=_DEBIAN,
            virtualbox=f"Debian{release}_64",
        )
        for release in (10, 11, 12, 13)
    ),
    GuestOs(
        word="debian",
        said="Debian GNU/Linux (64-bit)",
        pattern="debian",
        cim=96,
        vmware=_DEBIAN,
        virtualbox="Debian_64",
    ),
    GuestOs(
        word="ubuntu",
        said="Ubuntu Linux (64-bit)",
        pattern="ubuntu",
        cim=94,
        vmware={4: "ubuntu-64"},
        virtualbox="Ubuntu_64",
    ),
    GuestOs(
        word="redhat",
        said="Red Hat Enterprise Linux (64-bit)",
        pattern=r"red ?hat|rhel|rocky|alma|centos",
        cim=80,
        vmware=_RED_HAT,
        virtualbox="RedHat_64",
    ),
    GuestOs(
        word="fedora",
        said="Fedora Linux (64-bit)",
        pattern="fedora",
        cim=101,
        vmware={10: "fedora-64"},
        virtualbox="Fedora_64",
    ),
    GuestOs(
        word="suse",
        said="SUSE Linux (64-bit)",
        pattern=r"suse|sles",
        cim=85,
        vmware={8: "sles11-64", 10: "sles12-64", 18: "sles15-64"},
        virtualbox="OpenSUSE_64",
    ),
    LINUX,
    GuestOs(
        word="windows-server",
        said="Microsoft Windows Server (64-bit)",
        pattern=r"windows.*server|windows ?20\d\d|windows9srv|windows2019srv",
        cim=118,
        vmware={10: "windows9srv-64"},
        virtualbox="Windows2016_64",
    ),
    GuestOs(
        word="windows",
        said="Microsoft Windows (64-bit)",
        pattern="windows",
        cim=120,
        vmware={10: "windows9-64"},
        virtualbox="Windows10_64",
    ),
    OTHER,
)
"""The more particular before the more general: the first that fits is taken."""


def guest_os(description: str) -> GuestOs:
    """The operating system that a text speaks of: `Debian GNU/Linux 12 (bookworm)`, `debian10-64`, `Ubuntu_64`."""
    wanted = description.lower()
    return next((system for system in SYSTEMS if wanted == system.word or _speaks_of(system, wanted)), OTHER)


def by_cim(number: int) -> GuestOs:
    """The operating system with this number in an OVF."""
    return next((system for system in reversed(SYSTEMS) if system.cim == number), OTHER)


def _speaks_of(system: GuestOs, description: str) -> bool:
    return bool(system.pattern) and re.search(system.pattern, description) is not None
