"""The contract of an OS module: what runs inside a machine, and who gets in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from vcl_provision.channels.runner import Channel
from vcl_provision.drivers.driver import Driver, O
from vcl_provision.model.lab import Address, Computer, Revision, User
from vcl_provision.model.states import RequestState


class Guest(Driver[O], ABC):
    """The machine inside. Made with the computer it is about; talks through `channel()`, the kept connection.

    Every method can be called again after having been cut off anywhere: it asks, and goes on.
    """

    add_user_in: ClassVar[RequestState] = RequestState.NEW
    """NEW: accounts are made while the machine gets ready. RESERVED: when the user acknowledges."""
    first_look: ClassVar[float] = 3.0
    """Seconds after the machine was opened for its user, before which nobody looks whether they are in: they cannot be
    sooner, and the guest's processor is needed for their login."""

    def channel(self, computer: Computer) -> Channel:
        """The kept connection into the guest. Raises Transient if it does not let us in now."""
        return self.task.guests.channel(computer, patience=self.task.patience)

    @abstractmethod
    def wait_ready(self, computer: Computer) -> None:
        """Until users could log in: the system's own word for it, not only an open port. Raises TimedOut."""

    @abstractmethod
    def post_load(self, computer: Computer, revision: Revision) -> None:
        """What each load needs: host name, time, a random administrator's password, all user-facing access closed."""

    def prepare(self, computer: Computer, revision: Revision) -> None:
        """`wait_ready`, then `post_load`. For modules that do both in fewer commands; others leave it as it is."""
        self.wait_ready(computer)
        self.post_load(computer, revision)

    @abstractmethod
    def reserve(self, computer: Computer, revision: Revision, user: User) -> None:
        """What each reservation needs before its user's account."""

    @abstractmethod
    def add_user(self, computer: Computer, revision: Revision, user: User) -> None:
        """Makes the account, with keys and/or password, and administrator's rights if the image gives them.

        Records `delete_user` before. Raises Refused for a name or key that the system could not take.
        """

    @abstractmethod
    def grant_access(self, computer: Computer, revision: Revision, user: User, address: Address) -> None:
        """Opens the connect methods' ports for the user's address, and closes what was open for another of theirs."""

    def admit(self, computer: Computer, revision: Revision, user: User, address: Address) -> None:
        """`add_user`, then `grant_access`. For modules that do both in fewer commands; others leave it as it is."""
        self.add_user(computer, revision, user)
        self.grant_access(computer, revision, user, address)

    @abstractmethod
    def revoke_access(self, computer: Computer) -> None:
        """Closes all user-facing access, also of connections that are open."""

    @abstractmethod
    def is_connected(self, computer: Computer, revision: Revision, user: User, address: Address) -> bool:
        """Is the user in: a connection to a connect method's port from the address."""

    @abstractmethod
    def notify_user(self, computer: Computer, user: User, message: str) -> None:
        """Shows one line to whoever is logged in."""

    @abstractmethod
    def sanitize(self, computer: Computer, user: User) -> None:
        """Makes a machine nobody has been in fit for the next user without a load: access closed, accounts gone."""

    @abstractmethod
    def delete_user(self, computer: Computer, user_name: str) -> None:
        """Ends the user's processes and removes the account with its files; succeeds if there is none."""

    @abstractmethod
    def pre_capture(self, computer: Computer, revision: Revision) -> None:
        """Makes the machine fit to become an image: users, keys, logs and identity removed."""

    @abstractmethod
    def reboot(self, computer: Computer) -> None:
        """Restarts from inside and waits until it is ready again."""

    @abstractmethod
    def shutdown(self, computer: Computer) -> None:
        """Powers off from inside; returns when the guest has accepted."""
