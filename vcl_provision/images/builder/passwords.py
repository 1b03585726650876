"""Passwords of a build: read once, from where the spec says; hashed here, so that no program ever sees them."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from vcl_provision.images.builder.cache import Cache
from vcl_provision.images.builder.spec import BuildSpec
from vcl_provision.images.passwords import password_hash
from vcl_provision.model.faults import Refused
from vcl_provision.model.secret import Secret

_CRYPT = re.compile(r"\$[a-z0-9]{1,8}\$[./A-Za-z0-9$=,_-]{8,400}")
_LARGEST = 4096


def read_passwords(spec: BuildSpec, cache: Cache | None = None) -> Mapping[str, Secret]:
    """Account to crypt(5) string, for those that have a password. Raises Refused if one cannot be read or is empty.

    The same spec gives the same hash, so that a build can be resumed: the cache has a salt of its own.
    With source_date_epoch the hash is the same everywhere; without either it is another one each time.
    """
    wanted = {"root": spec.accounts.root_password, **{user.name: user.password for user in spec.accounts.users}}
    return {name: _hashed(name, _read(name, source), spec, cache) for name, source in wanted.items() if source}


def _hashed(name: str, said: str, spec: BuildSpec, cache: Cache | None) -> Secret:
    if _CRYPT.fullmatch(said):
        return Secret(said)
    if spec.source_date_epoch is None and cache is None:
        return password_hash(Secret(said))
    salt = cache.salt if cache and spec.source_date_epoch is None else str(spec.source_date_epoch)
    # One salt for each account, and nothing of the password in it.
    about = f"{salt}:{spec.system.hostname}:{name}"
    return password_hash(Secret(said), salt=hashlib.sha256(about.encode()).hexdigest()[:16])


def _read(name: str, source: str) -> str:
    kind, _, where = source.partition(":")
    try:
        if kind == "stdin":
            said = sys.stdin.readline(_LARGEST)
        elif kind == "env":
            said = os.environ.get(where, "")
        else:
            with Path(where).expanduser().open(encoding="utf-8") as file:
                said = file.readline(_LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the password of {name} cannot be read from {source}: {error}") from error
    said = said.rstrip("\r\n")
    if not said:
        raise Refused(f"the password of {name} from {source} is empty", "leave it out for an account without one")
    return said
