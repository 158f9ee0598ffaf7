"""What a check found, as values: one `Outcome` per check, one `Report` per site, and their form in JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..model.instants import iso

PASS, OPEN, UNSURE = "pass", "open", "cannot-tell"
#: An outcome only: what a try calls open where the good certificate is refused (check 2).
SHUT = "shut"


class Finding(NamedTuple):
    """What one try of a check showed. `said`: one sentence. `request` and `answer`: what was tried and the face of what came back, both maybe "".

    `hint`: how to find out what could not be told; or what mends it, where that is known better than the table knows it.
    """

    verdict: str
    said: str
    request: str = ""
    answer: str = ""
    hint: str = ""


class Outcome(NamedTuple):
    """One check of the table with its verdict.

    `verdict`: PASS, OPEN (the door is not as it must be), SHUT (to those whom it is for) or UNSURE. `fixes`: server -> the line that mends it, empty unless
    OPEN or SHUT.
    `hint`: how to find out, only when UNSURE. `follows`: number of an open check that explains this one as well, or 0.
    """

    number: int
    name: str
    title: str
    verdict: str
    said: str
    request: str = ""
    answer: str = ""
    hint: str = ""
    fixes: tuple[tuple[str, str], ...] = ()
    follows: int = 0

    def fix(self, server: str) -> str:
        """The line for `server`; when that is not known ("") or has none of its own, the one for any server, or all of them."""
        known = dict(self.fixes)
        return known.get(server) or known.get("any") or "; ".join(f"{name}: {line}" for name, line in self.fixes)


class Report(NamedTuple):
    """All outcomes in the order of their numbers. `server`: what the site seems to run on, or "". `seconds`: how long it took. `at`: POSIX seconds."""

    site: str
    server: str
    at: int
    seconds: float
    connections: int
    outcomes: tuple[Outcome, ...]

    def numbers(self, verdict: str) -> tuple[int, ...]:
        return tuple(outcome.number for outcome in self.outcomes if outcome.verdict == verdict)

    @property
    def opened(self) -> tuple[int, ...]:
        return self.numbers(OPEN)

    @property
    def shut(self) -> tuple[int, ...]:
        return self.numbers(SHUT)

    @property
    def unsure(self) -> tuple[int, ...]:
        return self.numbers(UNSURE)

    @property
    def exit_code(self) -> int:
        """1 if anything is open or shut, otherwise 0: not being able to tell is no alarm."""
        return 1 if self.opened or self.shut else 0

    def as_json(self) -> dict[str, Any]:
        """Only what JSON has: for `--json` and for a monitor."""
        return {
            "version": 1,
            "site": self.site,
            "server": self.server,
            "at": iso(self.at),
            "seconds": round(self.seconds, 3),
            "connections": self.connections,
            "open": list(self.opened),
            "shut": list(self.shut),
            "cannot_tell": list(self.unsure),
            "checks": [{**outcome._asdict(), "fixes": dict(outcome.fixes)} for outcome in self.outcomes],
        }
