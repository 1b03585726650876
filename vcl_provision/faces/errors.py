"""What went wrong, as one line and a hint; and the exit status that says what kind it was."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from enum import IntEnum

import psycopg
from rich.console import Console
from rich.text import Text

from vcl_provision.faces.place import NoPlace
from vcl_provision.faces.story import NoSuchRequest
from vcl_provision.model.faults import NotAllowed, ProvisionError, SettingsError
from vcl_provision.store.database import DatabaseAway


class Exit(IntEnum):
    """Exit statuses of `vcl`."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    NO_DATABASE = 4
    RESERVATION_FAILED = 5
    DEFECT = 70
    INTERRUPTED = 130


STATUS: dict[type[Exception], Exit] = {NoSuchRequest: Exit.NOT_FOUND, NoPlace: Exit.NO_DATABASE}

AWAY = "is it running, and the one you mean (--dsn, VCL_DSN, [database] in vcld.toml)? vcl up starts a lab of your own"
NO_SCHEMA = "it has no tables of vcl, or older ones: vcl db migrate brings them"
NOT_THERE = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedColumn)
HINTS = {
    "user_name_is_one_that_a_system_takes": "a user's name is 1 to 32 of a-z, 0-9, _ and -, and begins with a-z or _",
    "key_is_a_line_of_authorized_keys": "a key is a line as in authorized_keys: ssh-ed25519 AAAA... comment",
}
"""What to do about constraints that people run into, whose messages PostgreSQL writes."""


class Failed(Exception):
    """Ends the command: `said` is its line, `hint` what to do, `status` the exit status."""

    def __init__(self, said: str, hint: str = "", *, status: Exit = Exit.REFUSED) -> None:
        super().__init__(said)
        self.said = said
        self.hint = hint
        self.status = status


FORESEEN = (Failed, ProvisionError, SettingsError, NotAllowed, DatabaseAway, psycopg.Error)


def run_clearly(program: Callable[[], object], console: Console) -> int:
    """Calls the program, returns the exit status."""
    try:
        program()
    except (KeyboardInterrupt, Exception) as no:  # noqa: BLE001 - shown, or raised again
        return ended(no, console)
    return Exit.DONE


def ended(no: BaseException, console: Console) -> int:
    """The exit status of a program that ended so. What we or the database raise on purpose is shown as line and hint.

    Raises what nobody foresaw, if VCL_TRACEBACK asks for it.
    """
    if isinstance(no, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(no, FORESEEN):
        failed = explained(no)
    elif os.environ.get("VCL_TRACEBACK"):
        raise no
    else:
        failed = _defect(no)
    show_failure(failed, console)
    return failed.status


def explained(no: Exception) -> Failed:
    """Any error that we know, as the one that is shown."""
    if isinstance(no, Failed):
        return no
    if isinstance(no, DatabaseAway):
        return Failed(str(no), AWAY, status=Exit.NO_DATABASE)
    if isinstance(no, ProvisionError):
        return Failed(no.said, no.hint, status=STATUS.get(type(no), Exit.REFUSED))
    if isinstance(no, psycopg.Error):
        return _from_database(no)
    return Failed(str(no))


def _defect(no: BaseException) -> Failed:
    """What nobody foresaw: named with its place, since it is to be mended and not to be understood."""
    frame = traceback.extract_tb(no.__traceback__)[-1]
    where = f"{frame.filename}:{frame.lineno}"
    hint = "a defect: VCL_TRACEBACK=1 before the command shows how it came to it"
    return Failed(f"{type(no).__name__}: {no} ({where})", hint, status=Exit.DEFECT)


def _from_database(no: psycopg.Error) -> Failed:
    said = no.diag.message_primary or str(no).strip() or type(no).__name__
    if isinstance(no, NOT_THERE):
        return Failed(said, NO_SCHEMA, status=Exit.NO_DATABASE)
    missing = isinstance(no, psycopg.errors.InvalidParameterValue)
    away = isinstance(no, psycopg.OperationalError) and not no.diag.sqlstate
    status = Exit.NOT_FOUND if missing else Exit.NO_DATABASE if away else Exit.REFUSED
    hint = no.diag.message_hint or HINTS.get(no.diag.constraint_name or "", "")
    return Failed(said, hint, status=status)


def show_failure(failed: Failed, console: Console) -> None:
    console.print(Text.assemble(("error: ", "bold red"), failed.said), soft_wrap=True)
    if failed.hint:
        console.print(Text.assemble(("hint: ", "bold"), failed.hint), soft_wrap=True)
