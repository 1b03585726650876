"""The machine in a slot: found by the computer's name, touched only if our owner tag is on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from vcl_provision.drivers import Found, Power, Reading, Refused

from .binding import libvirt, numbers
from .connections import found, gone_is_fine
from .machine import mark_of


def domain_named(connection: libvirt.virConnect, name: str) -> libvirt.virDomain | None:
    """Whatever machine has this name."""
    return found(lambda: connection.lookupByName(name), libvirt.VIR_ERR_NO_DOMAIN)


def own_domain(connection: libvirt.virConnect, name: str, owner: str) -> libvirt.virDomain | None:
    """Our machine of this name, None if there is none. Raises Refused if it is somebody else's."""
    domain = domain_named(connection, name)
    if domain is None:
        return None
    mark = found(lambda: mark_of(domain), libvirt.VIR_ERR_NO_DOMAIN)
    if mark is None and domain_named(connection, name) is None:
        return None  # removed between the two questions
    if mark is None or mark.owner != owner:
        whose = f"belongs to {mark.owner}" if mark else "carries no owner tag of ours"
        said = f"a machine named {name} is there already and {whose}"
        raise Refused(said, "rename or remove it, or rename the computer")
    return domain


def needed_domain(connection: libvirt.virConnect, name: str, owner: str) -> libvirt.virDomain:
    """Our machine of this name. Raises Refused if there is none, or it is somebody else's."""
    domain = own_domain(connection, name, owner)
    if domain is None:
        raise Refused(f"there is no machine {name}", "load an image on it first")
    return domain


def state_of(domain: libvirt.virDomain) -> int:
    """libvirt's word for what the machine does now; VIR_DOMAIN_SHUTOFF also if it is gone."""
    return _state(domain)[0]


def is_running(domain: libvirt.virDomain) -> bool:
    """Runs, or would if its CPU had anything to do."""
    return state_of(domain) in {libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED}


def alive(domain: libvirt.virDomain, folder: str) -> bool:
    """Is it running; asked while it boots. Raises Refused if QEMU stopped it because it could not write."""
    if _state(domain) == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]:
        raise Refused(f"{domain.name()} was stopped: its disk in {folder} cannot be written", f"is {folder} full?")
    return is_running(domain)


def control(connection: libvirt.virConnect, name: str, owner: str, action: Power) -> None:
    """Turns our machine on or off, resets, suspends or resumes it, from whatever state; what is so already is fine.

    Raises Refused for suspending or resuming a machine that is off, and if there is none; but one that is gone is off.
    """
    domain = own_domain(connection, name, owner)
    if domain is None and action is Power.OFF:
        return
    _WAYS[action](needed_domain(connection, name, owner))


def clear(connection: libvirt.virConnect, name: str, owner: str) -> None:
    """Removes our machine, with saved states and snapshots; no machine is fine. Raises Refused if it is another's."""
    domain = own_domain(connection, name, owner)
    if domain is not None:
        destroy(domain)


def destroy(domain: libvirt.virDomain) -> None:
    """Cuts the power of a machine and forgets it."""
    turn_off(domain)
    flags = (
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    )
    gone_is_fine(lambda: domain.undefineFlags(flags), libvirt.VIR_ERR_NO_DOMAIN)


def listed(connection: libvirt.virConnect) -> Iterator[Found]:
    """All machines there are."""
    for domain in connection.listAllDomains():
        mark = found(lambda domain=domain: mark_of(domain), libvirt.VIR_ERR_NO_DOMAIN)
        yield Found(name=domain.name(), owner=mark.owner if mark else "", what=f"machine {domain.name()}")


def reading(domain: libvirt.virDomain) -> Reading:
    """What it uses: its CPU time since it started, the memory of the VM host that it really takes."""
    nanoseconds = numbers(domain.info())[4]
    kibibytes = cast("Mapping[str, int]", domain.memoryStats())["rss"] if domain.isActive() else 0
    return Reading(cpu_seconds=nanoseconds / 1e9, memory_bytes=kibibytes * 1024)


def turn_off(domain: libvirt.virDomain) -> None:
    """Cuts its power."""
    gone_is_fine(domain.destroy, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN)


def turn_on(domain: libvirt.virDomain) -> None:
    """Starts or resumes it. A second starter finds it running."""
    if state_of(domain) == libvirt.VIR_DOMAIN_PAUSED:
        _resume(domain)
    elif not domain.isActive():
        gone_is_fine(domain.create, libvirt.VIR_ERR_OPERATION_INVALID)


def _state(domain: libvirt.virDomain) -> list[int]:
    """State and reason."""
    said = found(domain.state, libvirt.VIR_ERR_NO_DOMAIN)
    return numbers(said) if said else [libvirt.VIR_DOMAIN_SHUTOFF, 0]


def _reset(domain: libvirt.virDomain) -> None:
    """A power cycle: also helps where QEMU itself hangs, and boots faster than a reset does."""
    turn_off(domain)
    turn_on(domain)


def _suspend(domain: libvirt.virDomain) -> None:
    _need_power(domain)
    if is_running(domain):
        domain.suspend()


def _resume(domain: libvirt.virDomain) -> None:
    _need_power(domain)
    if state_of(domain) == libvirt.VIR_DOMAIN_PAUSED:
        gone_is_fine(domain.resume, libvirt.VIR_ERR_OPERATION_INVALID)


def _need_power(domain: libvirt.virDomain) -> None:
    if not domain.isActive():
        raise Refused(f"{domain.name()} is off", "turn it on first")


_WAYS = {Power.ON: turn_on, Power.OFF: turn_off, Power.RESET: _reset, Power.SUSPEND: _suspend, Power.RESUME: _resume}
