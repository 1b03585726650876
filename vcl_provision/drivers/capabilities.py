"""What a module can do beyond the seven verbs: types that it inherits."""

from __future__ import annotations

from vcl_provision.drivers.provisioner import (
    Addresses,
    Disks,
    GuestExec,
    Inventory,
    LocalHost,
    Masters,
    Metrics,
    Snapshots,
)

ALL: tuple[type, ...] = (Addresses, Disks, GuestExec, Inventory, LocalHost, Masters, Metrics, Snapshots)


def declared(module: type) -> list[type]:
    """The capabilities that a module inherits."""
    return [capability for capability in ALL if capability in module.__mro__]


def names(module: type) -> list[str]:
    return [capability.__name__ for capability in declared(module)]


def methods(capability: type) -> list[str]:
    """What a capability asks for: the public names of its body."""
    return [name for name in vars(capability) if not name.startswith("_")]


def unwritten(module: type) -> list[str]:
    """Methods of inherited capabilities that the module leaves to the contract: there they do nothing."""
    return [
        f"{capability.__name__}.{name}"
        for capability in declared(module)
        for name in methods(capability)
        if next(cls for cls in module.__mro__ if name in vars(cls)) is capability
    ]
