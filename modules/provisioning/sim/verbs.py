"""What runs inside a simulated machine: a handful of commands, asked and answered in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from .delays import delay
from .machines import Slot
from .options import Options
from .world import Change

Asked = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Inside:
    """One command's surroundings: in a transaction, on one load of the machine."""

    change: Change
    options: Options
    slot: Slot
    instance: str
    random: Random

    def note(self, what: str, user: str = "", **detail: object) -> None:
        slot = self.slot
        self.change.note(
            what, host=slot.host, computer=slot.name, instance=self.instance, owner=slot.owner, user=user, **detail
        )

    def draw(self, spec: str) -> float:
        drawn = delay(spec)
        return drawn(self.random) if drawn else 0.0


def _true(_: Inside, __: Asked) -> None:
    """Answers."""


def _is_connected(inside: Inside, asked: Asked) -> Asked:
    user, address, now = str(asked["user"]), str(asked["address"]), inside.change.now
    row = inside.change.first(
        "SELECT 1 FROM login WHERE instance = ? AND user = ? AND address = ? UNION ALL SELECT 1 FROM access"
        " WHERE instance = ? AND user = ? AND address = ? AND comes_at <= ? AND coalesce(leaves_at > ?, true)",
        inside.instance, user, address, inside.instance, user, address, now, now,
    )  # fmt: skip
    return {"connected": row is not None}


def _users(inside: Inside, _: Asked) -> Asked:
    rows = inside.change.ask("SELECT user FROM account WHERE instance = ?", inside.instance)
    return {"users": [row[0] for row in rows]}


def _post_load(inside: Inside, asked: Asked) -> None:
    inside.change.do("DELETE FROM access WHERE instance = ?", inside.instance)
    inside.change.do(
        "UPDATE machine SET prepared = 1, hostname = ? WHERE instance = ?", asked["hostname"], inside.instance
    )
    inside.note("prepared")


def _add_user(inside: Inside, asked: Asked) -> None:
    user = str(asked["user"])
    inside.change.do("INSERT OR REPLACE INTO account VALUES (?, ?, ?)", inside.instance, user, json.dumps(dict(asked)))
    inside.note("user_added", user)


def _delete_user(inside: Inside, asked: Asked) -> None:
    user = str(asked["user"])
    inside.change.do("DELETE FROM login WHERE instance = ? AND user = ?", inside.instance, user)
    inside.change.do("DELETE FROM access WHERE instance = ? AND user = ?", inside.instance, user)
    if inside.change.do("DELETE FROM account WHERE instance = ? AND user = ?", inside.instance, user):
        inside.note("user_deleted", user)


def _open(inside: Inside, asked: Asked) -> None:
    """Lets a user in from one address; draws when they come, and go, by themselves."""
    user, address, now = str(asked["user"]), str(asked["address"]), inside.change.now
    come, stay = inside.options.users_come, inside.options.users_stay
    comes_at = now + inside.draw(come) if come else None
    leaves_at = comes_at + inside.draw(stay) if stay and comes_at is not None else None
    inside.change.do(
        "DELETE FROM login WHERE instance = ? AND user = ? AND address <> ?", inside.instance, user, address
    )
    inside.change.do(
        "INSERT INTO access VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET address = excluded.address",
        inside.instance, user, address, now, comes_at, leaves_at,
    )  # fmt: skip
    inside.note("opened", user, address=address)


def _close(inside: Inside, _: Asked) -> None:
    inside.change.do("DELETE FROM login WHERE instance = ?", inside.instance)
    if inside.change.do("DELETE FROM access WHERE instance = ?", inside.instance):
        inside.note("closed")


def _notify(inside: Inside, asked: Asked) -> None:
    inside.note("notified", str(asked["user"]), message=asked["message"])


def _clean(inside: Inside, asked: Asked) -> None:
    """Nobody in, nobody known; `unprepared` for what is to become an image."""
    inside.change.do("DELETE FROM login WHERE instance = ?", inside.instance)
    inside.change.do("DELETE FROM access WHERE instance = ?", inside.instance)
    inside.change.do("DELETE FROM account WHERE instance = ?", inside.instance)
    if asked.get("unprepared"):
        inside.change.do("UPDATE machine SET prepared = 0 WHERE instance = ?", inside.instance)
    inside.note("cleaned")


def _poweroff(inside: Inside, _: Asked) -> None:
    inside.change.do("DELETE FROM login WHERE instance = ?", inside.instance)
    inside.change.do("UPDATE machine SET power = 'off' WHERE instance = ?", inside.instance)
    inside.note("power_off")


def _reboot(inside: Inside, _: Asked) -> None:
    boot = inside.options.delay("boot")
    boots_at = inside.change.now + (boot(inside.random) if boot else 0.0)
    inside.change.do("DELETE FROM login WHERE instance = ?", inside.instance)
    inside.change.do("UPDATE machine SET boots_at = ? WHERE instance = ?", boots_at, inside.instance)
    inside.note("started", boots_at=boots_at)


QUESTIONS: dict[str, Callable[[Inside, Asked], Asked | None]] = {
    "true": _true,
    "is_connected": _is_connected,
    "users": _users,
}
"""What changes nothing."""

VERBS: dict[str, Callable[[Inside, Asked], Asked | None]] = {
    **QUESTIONS,
    "post_load": _post_load,
    "add_user": _add_user,
    "delete_user": _delete_user,
    "open": _open,
    "close": _close,
    "notify": _notify,
    "clean": _clean,
    "poweroff": _poweroff,
    "reboot": _reboot,
}
"""What the guest understands."""
