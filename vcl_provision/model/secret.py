"""A string that does not print itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Secret:
    """A password or private key. Shows as `***` in messages, logs and tracebacks; `reveal()` where it is used."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """The text itself: for the program's standard input or a file of mode 600, never a command line."""
        return self._text

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "Secret(***)"
