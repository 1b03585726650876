"""`vcl db psql`: from a lab to a shell that speaks SQL to its database."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from vcl_provision.store.programs import find_psql


def become_psql(dsn: str, arguments: Sequence[str]) -> None:
    """This process becomes psql. Raises Refused if there is none."""
    shell = str(find_psql())
    argv, environ = call(dsn, arguments, os.environ)
    os.execve(shell, [shell, *argv], environ)  # noqa: S606 - an argument list, and psql is to have our terminal


def call(dsn: str, arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Its arguments and its environment: the password goes there, since everybody may read arguments."""
    known = conninfo_to_dict(dsn)
    password = known.pop("password", None)
    secret = {"PGPASSWORD": str(password)} if password else {}
    return ["-d", make_conninfo("", **known), *arguments], {**environ, **secret}
