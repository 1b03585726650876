"""Passwords as guests keep them."""

from __future__ import annotations

from typing import Protocol, cast

from passlib.handlers.sha2_crypt import sha512_crypt

from vcl_provision.model.secret import Secret

ROUNDS = 5000
"""The scheme's own number. Passwords here are random and live for hours, and an emulated guest has to check them."""


class _Scheme(Protocol):
    """passlib's, as far as we use it."""

    def using(self, *, rounds: int, salt: str | None = None) -> _Scheme: ...

    def hash(self, secret: str) -> str: ...


def password_hash(password: Secret, *, salt: str | None = None) -> Secret:
    """A crypt(5) string (`$6$`, SHA-512), which every libc of the last fifteen years understands.

    `salt`: up to 16 letters, digits, `./`, for who needs the same hash again; else a random one.
    """
    scheme = cast("_Scheme", sha512_crypt)
    return Secret(scheme.using(rounds=ROUNDS, salt=salt).hash(password.reveal()))
