"""`vcl demo`: the whole way of one reservation, on a lab of one's own, shown as it goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import psycopg
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from vcl_provision.channels.local import LocalChannel
from vcl_provision.channels.patience import Patience
from vcl_provision.faces import journal, login
from vcl_provision.faces.connecting import WayIn
from vcl_provision.faces.lab.address import second_address
from vcl_provision.faces.lab.daemon import LabDaemon
from vcl_provision.faces.lab.down import take_down
from vcl_provision.faces.lab.folder import SIMULATED, LabFolder
from vcl_provision.faces.lab.people import DEMO_USER
from vcl_provision.faces.lab.up import LabUp, bring_up, require_possible
from vcl_provision.faces.output import Columns, state, table
from vcl_provision.faces.stages import Stages
from vcl_provision.faces.story import Story, read_story
from vcl_provision.faces.watch import CHANNEL, watch
from vcl_provision.model.duration import spoken
from vcl_provision.model.faults import Cancelled, CommandFailed, Refused, TimedOut
from vcl_provision.model.lab import Address
from vcl_provision.store import listings, requests
from vcl_provision.store.database import Listener, listen
from vcl_provision.store.requests import Wanted

COMPUTERS = 2
RULE = 100
"""Columns that a title's rule takes where there is no terminal to say how many there are."""
LOGIN = 60.0
"""Seconds that a login with a command may take."""
COMMAND = """
echo "I am $(id -un) on $(hostname), from ${SSH_CLIENT%% *}; it runs $(. /etc/os-release && echo "$PRETTY_NAME")."
uptime -p
sudo -n true && echo "I may become root here."
"""

COLUMNS: Columns[listings.ListedComputer] = {
    "computer": lambda row: row.name,
    "state": lambda row: state(row.state),
    "holds": lambda row: row.holds or "-",
}


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One showing, on a lab that is up."""

    there: LabUp
    listener: Listener
    console: Console

    def show(self) -> None:
        began = time.monotonic()
        number = self.reserve()
        try:
            self.get_ready(number)
            took = self.log_in(number) - began
        except BaseException:
            with suppress(psycopg.Error):
                requests.end(self.listener.connection, number)
            raise
        self.give_back(number)
        self.what_is_left(number)
        what = "being let in" if self.there.module == SIMULATED else "a command of their own on the machine"
        self.console.print(f"\n[bold]From {DEMO_USER}'s reserving to {what}: {spoken(took)}.[/bold]")

    def reserve(self) -> int:
        image = self.there.images[0]
        self.title(f"{DEMO_USER} reserves {image}", f"vcl reserve {image} --user {DEMO_USER} --hours 1 --watch")
        wanted = Wanted(user=DEMO_USER, image=image, lasting=timedelta(hours=1))
        return requests.add_request(self.listener.connection, wanted)

    def get_ready(self, number: int) -> None:
        story = self.watch(number, until="reserved")
        if story.status.state == "failed":
            hint = story.status.hint or f"see {self.there.lab.log}"
            raise Refused(f"request {number} failed: {story.status.fault}", hint)

    def log_in(self, number: int) -> float:
        """The moment, on the monotonic clock, at which the user's command was done, or they were let in."""
        story = read_story(self.listener.connection, number)
        if self.there.module == SIMULATED:
            return self.log_in_to_nothing(number)
        machine = ip_address(story.machines[0].address or "")
        taken = [ip_address(row.address) for row in listings.computers(self.listener.connection)]
        with second_address(machine, taken=taken) as address:
            self.title(f"{DEMO_USER} comes from {address}, and logs in", f"vcl connect {number} --address {address}")
            way = self.let_in(number, address)
            self.run_there(way)
            done = time.monotonic()
            with _staying(way):
                self.watch(number, until="inuse", seen=requests.moment(self.listener.connection))
        return done

    def log_in_to_nothing(self, number: int) -> float:
        self.title(f"{DEMO_USER} acknowledges", f"vcl connect {number}")
        self.console.print("The machine is simulated: nobody can log in to it over ssh. Its user comes by themselves.")
        login.let_in(self.listener, number, self.there.lab, self.console)
        return time.monotonic()

    def let_in(self, number: int, address: Address) -> WayIn:
        return login.let_in(self.listener, number, self.there.lab, self.console, come_from=str(address))

    def run_there(self, way: WayIn) -> None:
        ran = LocalChannel().run(way.ssh((COMMAND,)), patience=Patience(LOGIN))
        self.console.print(Text(f"$ ssh {way.user}@{way.address} ...", style="bold"))
        self.console.print(Text("\n".join(f"    {line}" for line in ran.stdout.splitlines())), soft_wrap=True)

    def give_back(self, number: int) -> None:
        self.title(f"{DEMO_USER} gives the machine back", f"vcl end {number} --watch")
        seen = requests.moment(self.listener.connection)
        requests.end(self.listener.connection, number)
        self.watch(number, until="complete", seen=seen)

    def what_is_left(self, number: int) -> None:
        self.title("The computers now", "vcl computers")
        self.console.print(table(listings.computers(self.listener.connection), COLUMNS), crop=False)
        self.title("The journal of it all", f"vcl log {number}")
        journal.follow(self.listener, number, self.console, lines=1000, on=False, as_json=False)

    def watch(self, number: int, *, until: str, seen: datetime | None = None) -> Story:
        return watch(
            self.listener, number, self.console, until=lambda story: story.status.state == until, seen=seen
        )

    def title(self, said: str, command: str) -> None:
        self.console.print()
        _rule(self.console, said, command)


def _rule(console: Console, said: str, command: str) -> None:
    rule = Rule(f"[bold]{said}[/bold]   [dim]{command}[/dim]", align="left", style="cyan")
    console.print(rule, width=min(console.width, RULE))


def run(folder: Path, *, module: str, console: Console) -> None:
    """Brings a lab up, shows, takes it down again, also when it is interrupted; one that ran before goes on running.

    Raises what its parts raise.
    """
    lab = LabFolder(folder.absolute())
    with _lab(lab, module, console) as there, closing(listen(there.dsn, [CHANNEL])) as listener:
        Demo(there=there, listener=listener, console=console).show()


@contextmanager
def _lab(lab: LabFolder, module: str, console: Console) -> Generator[LabUp]:
    require_possible(lab, module)
    stages = Stages(console)
    ran_before = LabDaemon(lab).running() is not None
    _rule(console, "A lab on this machine", "vcl up")
    try:
        yield bring_up(lab.path, module=module, computers=COMPUTERS, stages=stages)
    finally:
        console.print()
        if ran_before:
            console.print("The lab ran before, and goes on running.")
        elif lab.module:
            _rule(console, "The lab ends", "vcl down")
            take_down(lab, purge=False, stages=stages)


@contextmanager
def _staying(way: WayIn) -> Generator[None]:
    """The user stays logged in meanwhile."""
    patience = Patience(LOGIN)
    session = threading.Thread(target=_stay, args=[way, patience], name="session")
    session.start()
    try:
        yield
    finally:
        patience.cancel()
        session.join()


def _stay(way: WayIn, patience: Patience) -> None:
    with suppress(Cancelled, TimedOut, CommandFailed):
        LocalChannel().run(way.ssh(("sleep", "60")), patience=patience)
