"""What every module is: made anew for each piece of work, with its options and its task."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from vcl_provision.drivers.task import Task
from vcl_provision.model.faults import Refused

API = 1
"""The contract's version; a module may say `API = 1` and is refused, by name, if it asks for another."""


class NoOptions:
    """For modules that have no settings."""


O = TypeVar("O")  # noqa: E741 - the options of a module


class Driver(Generic[O]):
    """Root of all modules. Cheap to make; what is dear to open lives in `self.task.kept`.

    `Options` is a frozen dataclass read from `[modules.<name>]` of vcld.toml; each field needs a default.
    """

    Options: ClassVar[type] = NoOptions

    def __init__(self, options: O, task: Task) -> None:
        self.options = options
        self.task = task

    def undo(self, action: str, arguments: dict[str, object]) -> None:
        """Undoes a recorded effect by calling `undo_<action>(**arguments)`. "Already gone" is success.

        Raises Refused for an action that this module does not know.
        """
        act = getattr(self, f"undo_{action}", None)
        if act is None:
            raise Refused(
                f"{type(self).__name__} cannot undo {action!r}", f"add undo_{action}() to the module, or undo by hand"
            )
        act(**arguments)
