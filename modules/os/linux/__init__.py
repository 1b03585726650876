"""Linux, over a channel as root: each method one script there, so that a load needs few commands and one connection."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vcl_provision.drivers import (
    Address,
    Computer,
    ConnectionDropped,
    Guest,
    Patience,
    Ran,
    Refused,
    RequestState,
    Revision,
    Secret,
    TimedOut,
    Transient,
    User,
    WrongHostKey,
    password_hash,
)

from .names import gate_arguments, host_name, key_line, services, user_name
from .scripts import script
from .sockets import peers, unmapped

API = 1

REFUSED = 65
"""The status with which a script says that trying again is no use: EX_DATAERR of sysexits(3)."""

BOOT_ANSWER = 15.0
"""Seconds for a machine that restarts to say which boot it is in."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """[modules.linux] of vcld.toml."""

    ready: float = 300.0
    """Seconds that a guest may take from its first answer over ssh until users may log in."""


class Linux(Guest[Options]):
    """systemd or not, nftables or iptables. Root is the management node's; users are accounts marked as ours.

    A user who is root can undo all of this from inside: what protects the next user is that the machine is removed.
    """

    Options = Options

    add_user_in = RequestState.RESERVED

    def wait_ready(self, computer: Computer) -> None:
        with _lets_users_in(computer):
            self._run(computer, "ready", patience=self._until_ready, changes=False)

    def post_load(self, computer: Computer, revision: Revision) -> None:
        arguments, root = _after_load(computer, revision)
        self._run(computer, "post_load", *arguments, stdin=root)

    def prepare(self, computer: Computer, revision: Revision) -> None:
        arguments, root = _after_load(computer, revision)
        with _lets_users_in(computer):
            self._run(computer, "prepare", *arguments, stdin=root, patience=self._until_ready)

    def reserve(self, computer: Computer, revision: Revision, user: User) -> None:
        """Nothing: accounts are made when the user acknowledges, and post_load has closed the gate."""

    def add_user(self, computer: Computer, revision: Revision, user: User) -> None:
        arguments, secret = self._account(revision, user)
        self._run(computer, "add_user", *arguments, stdin=secret, about=user.name)

    def grant_access(self, computer: Computer, revision: Revision, user: User, address: Address) -> None:
        gate = _gate(revision, address)
        self._run(computer, "grant_access", *gate, about=" ".join(gate[1:]))

    def admit(self, computer: Computer, revision: Revision, user: User, address: Address) -> None:
        gate = _gate(revision, address)
        arguments, secret = self._account(revision, user)
        about = " ".join((user.name, *gate[1:]))
        self._run(computer, "admit", *arguments, *gate, stdin=secret, about=about)

    def revoke_access(self, computer: Computer) -> None:
        self._run(computer, "access", about="closed")

    def is_connected(self, computer: Computer, revision: Revision, user: User, address: Address) -> bool:
        """Without our own connection, which may come from the same address. Also opens the gate again if the user has
        restarted the machine."""
        methods = tuple(revision.connect_methods)
        gate = gate_arguments(address, methods)
        ours, _, listed = self._run(computer, "is_connected", *gate, changes=False).stdout.partition("\n")
        ports = {port.port for method in methods for port in method.ports}
        users = [peer for peer in peers(listed) if peer.address == unmapped(address) and peer.to_port in ports]
        return any(str(peer.port) not in ours.split() for peer in users)

    def notify_user(self, computer: Computer, user: User, message: str) -> None:
        line = "".join(character for character in message if character.isprintable())
        self._run(computer, "notify_user", user_name(user), line)

    def sanitize(self, computer: Computer, user: User) -> None:
        self._run(computer, "sanitize")

    def delete_user(self, computer: Computer, user_name: str) -> None:
        self._run(computer, "delete_user", user_name, about=user_name)

    def undo_delete_user(self, user_name: str) -> None:
        """A machine that answers with another key, or has none, is another load: the account went with the old one."""
        if not self.task.computer.host_key:
            return
        try:
            self.delete_user(self.task.computer, user_name)
        except WrongHostKey:
            return

    def pre_capture(self, computer: Computer, revision: Revision) -> None:
        self._run(computer, "pre_capture")

    def reboot(self, computer: Computer) -> None:
        before, *granted = self._boot(computer, self.task.patience)
        self._going_down(computer, "reboot")
        self.task.wait_until(lambda: self._is_up_again(computer, before), f"{computer.name} to restart")
        self.wait_ready(computer)
        if granted:
            self._run(computer, "access", *granted[0].split(), about=granted[0])

    def shutdown(self, computer: Computer) -> None:
        self._going_down(computer, "shutdown")

    @property
    def _until_ready(self) -> Patience:
        return self.task.patience.at_most(self.options.ready)

    def _account(self, revision: Revision, user: User) -> tuple[Sequence[str], str]:
        """Arguments and standard input of scripts/add_user.sh; the undo is written down. Raises Refused."""
        name, keys = user_name(user), [key_line(line) for line in user.keys]
        password = password_hash(user.password).reveal() if user.password else ""
        if not keys and not password:
            raise Refused(f"{name} has neither an ssh key nor a password", "give the user a key: nobody could log in")
        self.task.record("delete_user", scope="reservation", user_name=name)
        uid = "" if user.uid is None else str(user.uid)
        return (name, uid, "sudo" if revision.sudo else ""), "\n".join((password, *keys, ""))

    def _going_down(self, computer: Computer, name: str) -> None:
        try:
            self._run(computer, name)
        except ConnectionDropped:
            pass  # it was faster than its answer
        finally:
            self.task.guests.forget(computer)

    def _is_up_again(self, computer: Computer, before: str) -> bool:
        """A machine that went without a word leaves a connection that nothing comes from: hence the short patience."""
        try:
            return self._boot(computer, self.task.patience.at_most(BOOT_ANSWER))[0] != before
        except (Transient, TimedOut):
            self.task.guests.forget(computer)
            return False

    def _boot(self, computer: Computer, patience: Patience) -> Sequence[str]:
        """Which boot it is in; then, if our gate stands, what it is open for."""
        return self._run(computer, "boot", changes=False, patience=patience).stdout.splitlines()

    def _run(
        self,
        computer: Computer,
        name: str,
        *arguments: str,
        stdin: str = "",
        about: str = "",
        changes: bool = True,
        patience: Patience | None = None,
    ) -> Ran:
        ran = self.channel(computer).run(
            ["sh", "-c", script(name), "vcl", *arguments],
            patience=patience or self.task.patience,
            stdin=stdin.encode(),
            name=f"{name} {about}".rstrip(),
            changes=changes,
            accept=(0, REFUSED),
        )
        if ran.status == REFUSED:
            said = ran.stderr.strip().splitlines()
            raise Refused(f"{computer.name}: {said[-1] if said else name}", "correct the image, or what is asked of it")
        return ran


@contextmanager
def _lets_users_in(computer: Computer) -> Generator[None]:
    """Says what a guest whose time is over was waited for."""
    try:
        yield
    except TimedOut as late:
        hint = "look at its console: a unit that systemd-user-sessions waits for does not come up"
        raise TimedOut(f"{computer.name} answers but lets no users log in: {late.said}", hint) from late


def _after_load(computer: Computer, revision: Revision) -> tuple[Sequence[str], str]:
    """Arguments and standard input of scripts/post_load.sh. Root's password is random, kept nowhere, and hashed here,
    since an emulated machine would take a second for it."""
    name = host_name(computer.name) if revision.set_hostname else ""
    root = password_hash(Secret(secrets.token_urlsafe(24)))
    return (name, str(round(time.time()))), f"root:{root.reveal()}\n"


def _gate(revision: Revision, address: Address) -> Sequence[str]:
    """Arguments of scripts/grant_access.sh: services, address, ports. Raises Refused."""
    methods = tuple(revision.connect_methods)
    return services(methods), *gate_arguments(address, methods)


MODULE = Linux
