"""A simulated lab of one's own: a file, and names for the machines that it can hold."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from vcl_provision.drivers import LocalImage, LocalLab, LocalSlot

from .world import World

FILE = "sim.db"


def lab(folder: Path, slots: int) -> LocalLab:
    """Makes the file if it is not there, and says what there is."""
    World(folder / FILE).close()
    first = IPv4Address("10.213.0.1")  # leads nowhere: only the simulator knows these addresses
    return LocalLab(
        host_name="simhost",
        host_address=str(folder / FILE),
        repository_path=str(folder),
        datastore_path=str(folder),
        vm_path=str(folder),
        network="simulated",
        images=[LocalImage(name="debian12", os="debian12", os_module="sim", profile="", min_ram_mb=256, sudo=True)],
        slots=[
            LocalSlot(
                name=f"sim{n}",
                mac=f"52:54:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",
                private_address=str(first + n),
            )
            for n in range(1, slots + 1)
        ],
        overrides={},
    )


def clear(folder: Path) -> None:
    """Removes all machines; the images stay."""
    if (folder / FILE).exists():
        world = World(folder / FILE)
        world.clear()
        world.close()
