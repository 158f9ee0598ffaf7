"""What a lint is: a row of a table with its source, to whom it applies, and a check that yields a sentence for each thing that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: `error`: nothing is recorded or signed. `notice`: a person is told.
SEVERITIES = ("error", "notice")


class Finding(NamedTuple):
    """One thing that a lint found: which lint, how bad, in words, and by which rule."""

    lint: str
    severity: str
    message: str
    source: str


class Lint(NamedTuple):
    """One row. What must be so stands in the check's docstring. The view is that of the file whose table it is in."""

    name: str
    severity: str
    source: str
    applies: Callable[[Any], bool]
    check: Callable[[Any], Iterator[str]]

    @property
    def about(self) -> str:
        return " ".join((self.check.__doc__ or "").split())


def applicable(lints: Iterable[Lint], view: object) -> tuple[Lint, ...]:
    """The lints that apply to what is looked at, in the order of the table."""
    return tuple(lint for lint in lints if lint.applies(view))


def run(lints: Iterable[Lint], view: object) -> list[Finding]:
    """All findings of these lints, which apply."""
    return [Finding(lint.name, lint.severity, message, lint.source) for lint in lints for message in lint.check(view)]
