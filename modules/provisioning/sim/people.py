"""The simulated users: who logs in from where. They obey the guest's firewall, and nobody's wishes."""

from __future__ import annotations

from .machines import Slot, machine_in
from .world import Change, World


def log_in(world: World, computer: str, user: str, address: str, *, host: str | None = None) -> None:
    """A user connects from an address, as with ssh. Raises ConnectionRefusedError saying what stood in the way."""
    with world.change() as change:
        slot, instance = _answering(change, computer, host)
        if not change.ask("SELECT 1 FROM access WHERE instance = ? AND address = ?", instance, address):
            raise ConnectionRefusedError(f"{computer}: the firewall is closed for {address}")
        if not change.ask("SELECT 1 FROM account WHERE instance = ? AND user = ?", instance, user):
            raise ConnectionRefusedError(f"{computer}: there is no account {user}")
        change.do("INSERT OR REPLACE INTO login VALUES (?, ?, ?, ?)", instance, user, address, change.now)
        change.note(
            "logged_in",
            host=slot.host,
            computer=slot.name,
            instance=instance,
            owner=slot.owner,
            user=user,
            address=address,
        )


def log_out(world: World, computer: str, user: str, *, host: str | None = None) -> None:
    """The user's connections end, also those of a user who came by themselves."""
    with world.change() as change:
        slot, instance = _answering(change, computer, host)
        change.do("DELETE FROM login WHERE instance = ? AND user = ?", instance, user)
        change.do(
            "UPDATE access SET leaves_at = ? WHERE instance = ? AND user = ? AND comes_at IS NOT NULL",
            change.now, instance, user,
        )  # fmt: skip
        change.note("logged_out", host=slot.host, computer=slot.name, instance=instance, owner=slot.owner, user=user)


def logged_in(world: World, computer: str) -> list[tuple[str, str]]:
    """(user, address) of the connections that log_in made."""
    rows = world.ask("SELECT l.user, l.address FROM login l JOIN machine USING (instance) WHERE name = ?", computer)
    return [(user, address) for user, address in rows]


def _answering(change: Change, computer: str, host: str | None) -> tuple[Slot, str]:
    row = change.first("SELECT host, owner FROM machine WHERE name = ? AND host = coalesce(?, host)", computer, host)
    slot = Slot(host=row[0], name=computer, owner=row[1]) if row else Slot(host=host or "", name=computer, owner="")
    machine = machine_in(change, slot)
    if machine is None or not machine.answers(change.now):
        raise ConnectionRefusedError(f"{computer} does not answer")
    return slot, machine.instance
