"""A hypervisor in a table: for tests, for runs of many machines, and to try the project without any hypervisor.

Machines, disks, images, users and what happened to them are rows of one SQLite file (`World`), so they outlive the
daemon that made them. How long calls take is in the options; what goes wrong is scripted into the file at any time, by
`script(world, "load", Kind.FAIL, computer="sim1", nth=2)`, by a line (`read_script`) or by `INSERT INTO fault`, and
`fired(world, number)` says whether it came to it. `doubles(world)` reads from the history whether a machine was ever
given to two people.
"""

from .doubles import doubles
from .faults import Kind, fired, heal, read_script, script
from .options import Options
from .people import log_in, log_out, logged_in
from .provisioner import Sim
from .world import Fact, World

MODULE = Sim

__all__ = [
    "MODULE",
    "Fact",
    "Kind",
    "Options",
    "Sim",
    "World",
    "doubles",
    "fired",
    "heal",
    "log_in",
    "log_out",
    "logged_in",
    "read_script",
    "script",
]
