"""A way in for users who have no key."""

from __future__ import annotations

import secrets
from dataclasses import replace

from vcl_provision.daemon.steady import SteadyDatabase
from vcl_provision.model.lab import User
from vcl_provision.model.reservation import Claim
from vcl_provision.model.secret import Secret
from vcl_provision.model.states import RequestState
from vcl_provision.store.work import Gathered, keep_password

ASKED_IN = (RequestState.NEW, RequestState.RESERVED)
"""States in which accounts are made."""


def with_way_in(database: SteadyDatabase, claim: Claim, gathered: Gathered) -> User:
    """The user; one without any key has a password, random, of this reservation only, and the same at each turn.

    Raises LeaseLost, Cancelled.
    """
    user = gathered.user
    if user.keys or user.password is not None or gathered.request.state not in ASKED_IN:
        return user
    made = Secret(secrets.token_urlsafe(12))
    return replace(user, password=database.ask(lambda conn: keep_password(conn, claim, made)))
