"""What a machine will be told is on record before it is loaded."""

from __future__ import annotations

import threading
from typing import cast

from a_lab import KEY, a_lab, claimed

from vcl_provision.daemon.record import WorkRecord
from vcl_provision.daemon.scribe import Scribe
from vcl_provision.daemon.steady import SteadyDatabase
from vcl_provision.model.reservation import Timings
from vcl_provision.store.database import Connection, Database
from vcl_provision.store.work import gather


def test_a_machine_is_told_what_the_settings_have_for_every_machine(database: Database, conn: Connection) -> None:
    claim = claimed(conn, a_lab(conn))
    gathered = gather(conn, claim, Timings())
    assert gathered is not None
    record = WorkRecord(
        database=SteadyDatabase(database=database, stop=threading.Event()),
        scribe=Scribe(database),
        claim=claim,
        gathered=gathered,
        management_keys=(KEY,),
        parameters={"zone": "b"},
    )
    computer, firstboot = record.loading()
    assert (firstboot.hostname, firstboot.parameters) == (computer.name, {"zone": "b"})
    recorded = conn.execute("SELECT host_key FROM vcl.computer WHERE id = %s", [computer.id]).fetchone()
    assert cast("tuple[str]", recorded)[0] == computer.host_key == firstboot.host_key
