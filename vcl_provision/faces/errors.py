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

EPILOG = (
    "Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 no such thing, "
    "4 no lab or database to speak to, 5 the reservation failed, 70 a defect."
)


class Failed(Exception):
    """Ends the command: `said` is its line, `hint` what to do, `status` the exit status."""

    def __init__(self, said: str, hint: str = "", *, status: Exit = Exit.REFUSED) -> None:
        super().__init__(said)
        self.said = said
        self.hint = hint
        self.status = status


def run_clearly(program: Callable[[], object], console: Console) -> int:
    """Calls the program, returns the exit status. What we or the database raise on purpose ends as line and hint."""
    try:
        program()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (Failed, ProvisionError, SettingsError, NotAllowed, DatabaseAway, psycopg.Error) as no:
        failed = explained(no)
        show_failure(failed, console)
        return failed.status
    except Exception as no:
        if os.environ.get("VCL_TRACEBACK"):
            raise
        show_failure(_defect(no), console)
        return Exit.DEFECT
    return Exit.DONE


def explained(no: Exception) -> Failed:
    """Any error that we know, as the one that is shown."""
    if isinstance(no, Failed):
        return no
    if isinstance(no, DatabaseAway):
        return Failed(str(no), "is it running? `vcl up` starts a lab of your own", status=Exit.NO_DATABASE)
    if isinstance(no, ProvisionError):
        return Failed(no.said, no.hint, status=STATUS.get(type(no), Exit.REFUSED))
    if isinstance(no, psycopg.Error):
        return _from_database(no)
    return Failed(str(no))


def _defect(no: Exception) -> Failed:
    """What nobody foresaw: named with its place, since it is to be mended and not to be understood."""
    frame = traceback.extract_tb(no.__traceback__)[-1]
    where = f"{frame.filename}:{frame.lineno}"
    hint = "a defect: VCL_TRACEBACK=1 before the command shows how it came to it"
    return Failed(f"{type(no).__name__}: {no} ({where})", hint, status=Exit.DEFECT)


def _from_database(no: psycopg.Error) -> Failed:
    said = no.diag.message_primary or str(no).strip() or type(no).__name__
    missing = isinstance(no, psycopg.errors.InvalidParameterValue)
    away = isinstance(no, psycopg.OperationalError) and not no.diag.sqlstate
    status = Exit.NOT_FOUND if missing else Exit.NO_DATABASE if away else Exit.REFUSED
    return Failed(said, no.diag.message_hint or "", status=status)


def show_failure(failed: Failed, console: Console) -> None:
    console.print(Text.assemble(("error: ", "bold red"), failed.said), soft_wrap=True)
    if failed.hint:
        console.print(Text.assemble(("hint: ", "bold"), failed.hint), soft_wrap=True)
