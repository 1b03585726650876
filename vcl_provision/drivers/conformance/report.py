"""What the kit found: one line for each thing tried, with what it proves and what to fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How an item ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One item: its `name`, what passing it `proves`, and if it did not pass why not and what to `fix`."""

    name: str
    proves: str
    verdict: Verdict
    why: str = ""
    fix: str = ""
    seconds: float = 0.0

    def lines(self) -> Iterator[str]:
        """As people read it."""
        yield f"{self.verdict:<14}  {self.name} ({self.seconds:.1f} s)"
        if self.verdict is Verdict.FAILED:
            yield f"{'':<14}    {self.why}"
            yield f"{'':<14}    wanted: {self.proves}"
            if self.fix:
                yield f"{'':<14}    to fix: {self.fix}"
        elif self.why:
            yield f"{'':<14}    {self.why}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was tried with one module, in order."""

    module: str
    path: str
    results: Sequence[Checked]

    @property
    def ok(self) -> bool:
        """Nothing failed."""
        return not self.failed

    @property
    def failed(self) -> list[Checked]:
        return self._with(Verdict.FAILED)

    @property
    def passed(self) -> list[Checked]:
        return self._with(Verdict.PASSED)

    @property
    def not_applicable(self) -> list[Checked]:
        return self._with(Verdict.NOT_APPLICABLE)

    def lines(self) -> Iterator[str]:
        """The whole report, plain."""
        yield f"{self.module}  {self.path}"
        for result in self.results:
            yield from result.lines()
        yield self.summary

    @property
    def summary(self) -> str:
        """How many passed, failed, were not applicable, in one line."""
        counts = f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.not_applicable)} not applicable"
        return f"{self.module}: {counts}, {sum(result.seconds for result in self.results):.1f} s"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _with(self, verdict: Verdict) -> list[Checked]:
        return [result for result in self.results if result.verdict is verdict]
