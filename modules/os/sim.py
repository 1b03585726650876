"""What runs inside the machines of the simulated hypervisor."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vcl_provision.drivers import Address, Computer, Guest, NoOptions, Refused, Revision, Transient, User

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}( [ -~]*)?\Z")


class SimGuest(Guest[NoOptions]):
    """Says over the guest channel what is to happen; the simulated guest does it."""

    first_look = 0.0

    def wait_ready(self, computer: Computer) -> None:
        self.task.wait_until(lambda: self._answers(computer), f"{computer.name} to be ready")

    def post_load(self, computer: Computer, revision: Revision) -> None:
        self._run(computer, "post_load", hostname=computer.name)

    def reserve(self, computer: Computer, revision: Revision, user: User) -> None:
        """Nothing is needed before the account."""

    def add_user(self, computer: Computer, revision: Revision, user: User) -> None:
        if not _NAME.match(user.name):
            raise Refused(
                f"{user.name!r} cannot be the name of an account", "use a-z, 0-9, _ and -, at most 32 of them"
            )
        for key in user.keys:
            if not _KEY.match(key):
                raise Refused(f"{key[:40]!r} is no public key", "give a line as ssh-keygen writes it")
        self.task.record("delete_user", scope="reservation", user=user.name)
        keys = list(user.keys)
        self._run(computer, "add_user", user=user.name, keys=keys, password=bool(user.password), sudo=revision.sudo)

    def grant_access(self, computer: Computer, revision: Revision, user: User, address: Address) -> None:
        self._run(computer, "open", user=user.name, address=str(address))

    def revoke_access(self, computer: Computer) -> None:
        self._run(computer, "close")

    def is_connected(self, computer: Computer, revision: Revision, user: User, address: Address) -> bool:
        return bool(self._ask(computer, "is_connected", user=user.name, address=str(address))["connected"])

    def notify_user(self, computer: Computer, user: User, message: str) -> None:
        self._run(computer, "notify", user=user.name, message=message)

    def sanitize(self, computer: Computer, user: User) -> None:
        self._run(computer, "clean")

    def delete_user(self, computer: Computer, user_name: str) -> None:
        self._run(computer, "delete_user", user=user_name)

    def pre_capture(self, computer: Computer, revision: Revision) -> None:
        self._run(computer, "clean", unprepared=True)

    def undo_delete_user(self, user: str) -> None:
        self.delete_user(self.task.computer, user)

    def reboot(self, computer: Computer) -> None:
        self._run(computer, "reboot")
        self.wait_ready(computer)

    def shutdown(self, computer: Computer) -> None:
        self._run(computer, "poweroff")

    def _answers(self, computer: Computer) -> bool:
        try:
            self._ask(computer, "true")
        except Transient:
            return False
        return True

    def _ask(self, computer: Computer, verb: str, **said: object) -> Mapping[str, Any]:
        ran = self.channel(computer).run(
            [verb], patience=self.task.patience, stdin=json.dumps(said).encode(), changes=False
        )
        return json.loads(ran.stdout)

    def _run(self, computer: Computer, verb: str, **said: object) -> None:
        self.channel(computer).run([verb], patience=self.task.patience, stdin=json.dumps(said).encode())


MODULE = SimGuest
