"""What lies on the hypervisor: images, disks, machines; each question and each change by its name."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vcl_provision.drivers import Computer, Power, Refused, Revision, Transient

from .world import Change, World


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place for a machine, and whose it is."""

    host: str
    name: str
    owner: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine as it is now. `boots_at` None: its guest never answers."""

    instance: str
    owner: str
    revision_id: int
    power: str
    host_key: str
    address: str
    ram_mb: int
    started_at: float | None
    boots_at: float | None
    prepared: bool

    def answers(self, now: float) -> bool:
        return self.power == Power.ON and self.boots_at is not None and self.boots_at <= now


_FIELDS = [field.name for field in fields(Machine)]


def machine_in(asked: World | Change, slot: Slot) -> Machine | None:
    """The machine in the slot, whoever's it is."""
    row = asked.first(
        "SELECT instance, owner, revision_id, power, host_key, address, ram_mb, started_at, boots_at, prepared"
        " FROM machine WHERE host = ? AND name = ?",
        slot.host, slot.name,
    )  # fmt: skip
    return None if row is None else Machine(**dict(zip(_FIELDS, row, strict=True)))


def own_machine(asked: World | Change, slot: Slot) -> Machine | None:
    """Our machine in the slot, None if there is none. Raises Refused if it is somebody else's."""
    machine = machine_in(asked, slot)
    if machine is not None and machine.owner != slot.owner:
        raise foreign(slot, machine.owner)
    return machine


def foreign(slot: Slot, owner: str) -> Refused:
    return Refused(
        f"slot {slot.name} holds what is not ours: its owner is {owner or 'unknown'!r}",
        "give the computer another name, or remove by hand what lies there",
    )


def make_disk(world: World, slot: Slot, *, instance: str, image: str) -> None:
    """The first step of a load. Raises Refused if the slot is somebody else's, Transient if the image is not there."""
    with world.change() as change:
        taken = change.first("SELECT owner FROM disk WHERE host = ? AND name = ?", slot.host, slot.name)
        if taken is not None:
            raise foreign(slot, taken[0]) if taken[0] != slot.owner else Transient(f"slot {slot.name} is not empty")
        if not change.ask("SELECT 1 FROM image WHERE host = ? AND name = ? AND whole", slot.host, image):
            raise Transient(f"image {image} is not on the host")
        change.do("INSERT INTO disk VALUES (?, ?, ?, ?, ?)", slot.host, slot.name, slot.owner, instance, image)
        change.note("disk_made", host=slot.host, computer=slot.name, instance=instance, owner=slot.owner, image=image)


def define(
    world: World, slot: Slot, computer: Computer, revision: Revision, *, instance: str, host_key: str, hostname: str
) -> None:
    """The second step: a machine, switched off. Raises Transient if another load has the slot by now."""
    with world.change() as change:
        if not change.ask(
            "SELECT 1 FROM disk WHERE host = ? AND name = ? AND instance = ?", slot.host, slot.name, instance
        ):
            raise Transient(f"another load took slot {slot.name}")
        change.do(
            "INSERT INTO machine (instance, host, name, owner, image, revision_id, power, host_key, address, mac,"
            " ram_mb, cpus, hostname) VALUES (?, ?, ?, ?, ?, ?, 'off', ?, ?, ?, ?, ?, ?)",
            instance, slot.host, slot.name, slot.owner, revision.name, revision.id, host_key,
            str(computer.private_address), computer.mac, max(computer.ram_mb, revision.min_ram_mb),
            max(computer.cpus, revision.min_cpus), hostname,
        )  # fmt: skip


def start(world: World, slot: Slot, *, instance: str, boot: float | None) -> None:
    """Switches it on; it answers after `boot` seconds, never if None. Raises Transient if another load has the slot."""
    with world.change() as change:
        boots_at = None if boot is None else change.now + boot
        if not change.do(
            "UPDATE machine SET power = 'on', started_at = ?, boots_at = ? WHERE instance = ? AND owner = ?",
            change.now, boots_at, instance, slot.owner,
        ):  # fmt: skip
            raise Transient(f"another load took slot {slot.name}")
        change.do("DELETE FROM login WHERE instance = ?", instance)
        change.note(
            "started", host=slot.host, computer=slot.name, instance=instance, owner=slot.owner, boots_at=boots_at
        )


def set_power(world: World, slot: Slot, *, instance: str, power: str) -> None:
    """Off and suspended, and on again after that: what the guest remembers goes with being off."""
    with world.change() as change:
        done = change.do("UPDATE machine SET power = ? WHERE instance = ? AND owner = ?", power, instance, slot.owner)
        if done and power == "off":
            change.do("DELETE FROM login WHERE instance = ?", instance)
        if done:
            change.note(f"power_{power}", host=slot.host, computer=slot.name, instance=instance, owner=slot.owner)


def remove(world: World, slot: Slot, *, instance: str | None = None, disk_too: bool = True) -> None:
    """Takes our machine and its disk out of the slot (of this load only, if it is named); gone already is well."""
    if not world.ask(_OURS, slot.host, slot.name, slot.host, slot.name):
        return
    with world.change() as change:
        values = (slot.host, slot.name, slot.owner, instance)
        done = change.do(
            "DELETE FROM machine WHERE host = ? AND name = ? AND owner = ? AND instance = coalesce(?, instance)",
            *values,
        )
        if disk_too:
            done += change.do(
                "DELETE FROM disk WHERE host = ? AND name = ? AND owner = ? AND instance = coalesce(?, instance)",
                *values,
            )
        if done:
            change.note("removed", host=slot.host, computer=slot.name, instance=instance or "", owner=slot.owner)


_OURS = "SELECT 1 FROM disk WHERE host = ? AND name = ? UNION ALL SELECT 1 FROM machine WHERE host = ? AND name = ?"


def owners(world: World, slot: Slot) -> set[str]:
    """Whose things lie in the slot."""
    rows = world.ask(
        "SELECT owner FROM disk WHERE host = ? AND name = ?"
        " UNION SELECT owner FROM machine WHERE host = ? AND name = ?",
        slot.host, slot.name, slot.host, slot.name,
    )  # fmt: skip
    return {row[0] for row in rows}


def everything_on(world: World, host: str) -> list[tuple[str, str, str]]:
    """Name, owner and kind of all that lies on a host."""
    rows = world.ask(
        "SELECT name, owner, 'disk' FROM disk WHERE host = ?"
        " UNION ALL SELECT name, owner, 'machine' FROM machine WHERE host = ?"
        " UNION ALL SELECT name, owner, 'half an image' FROM image WHERE host IN (?, '') AND NOT whole ORDER BY 1, 3",
        host, host, host,
    )  # fmt: skip
    return [(name, owner, kind) for name, owner, kind in rows]


def image_size(world: World, host: str, name: str) -> int | None:
    """Bytes of a whole image there (host '' is the repository), None if there is none."""
    row = world.first("SELECT size FROM image WHERE host = ? AND name = ? AND whole", host, name)
    return int(row[0]) if row else None


def taken(world: World, host: str, *, each: int) -> int:
    """Bytes that whole images, and machines of so many bytes each, take on a host."""
    row = world.first(
        "SELECT (SELECT coalesce(sum(size), 0) FROM image WHERE host = ? AND whole)"
        " + (SELECT count(*) FROM disk WHERE host = ?) * ?",
        host, host, each,
    )  # fmt: skip
    return int(row[0]) if row else 0


def put_image(world: World, host: str, name: str, *, size: int, owner: str, whole: bool) -> None:
    """Writes an image: first not whole, then whole."""
    with world.change() as change:
        change.do("INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?)", host, name, owner, size, whole)


def drop_half_image(world: World, host: str, name: str) -> None:
    """Removes an image that did not become whole."""
    with world.change() as change:
        change.do("DELETE FROM image WHERE host = ? AND name = ? AND NOT whole", host, name)
