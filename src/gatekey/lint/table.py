"""What a lint is: a row of a table with its source, to whom it applies, and a check that yields a sentence for each thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

View = TypeVar("View")

#: `error`: nothing is recorded or signed. `notice`: a person is told.
SEVERITIES = ("error", "notice")


class Finding(NamedTuple):
    """One thing that a lint found: which lint, how bad, in words, and by which rule."""

    lint: str
    severity: str
    message: str
    source: str


class Lint(NamedTuple, Generic[View]):
    """One row. What must be so stands in the check's docstring."""

    name: str
    severity: str
    source: str
    applies: Callable[[View], bool]
    check: Callable[[View], Iterator[str]]

    @property
    def about(self) -> str:
        return " ".join((self.check.__doc__ or "").split())


def run(lints: Iterable[Lint[View]], view: View) -> list[Finding]:
    """All findings of all lints that apply, in the order of the table."""
    return [Finding(lint.name, lint.severity, message, lint.source) for lint in lints if lint.applies(view) for message in lint.check(view)]
