"""/healthz: the process lives. /readyz: every named check, what it found and what to do; not ready when one of them fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ..authority.health import FAIL, OK, WARN, Finding
from ..errors import GatekeyError
from ..protocols.message import Answer, Call, as_json

Check = Callable[[], Finding]
#: What was found longer ago than this counts no more (seconds): the thread that looks hangs. Each check has its turn within ten.
STALE = 30


def alive(_: Call) -> Answer:
    """The process answers: no more is promised."""
    return Answer(200, (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store")), b"ok\n")


class _Found(NamedTuple):
    """A finding, and when it was made (monotonic seconds)."""

    finding: Finding
    at: float


class Health:
    """Named checks. They run in the housekeeping thread; a question is answered from memory, so asking often costs nothing.

    `tell` hears of checks that broke off, once each time that one begins to. `clock`: seconds that only grow.
    """

    def __init__(self, tell: Callable[[str, Exception], object] = lambda _, __: None, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._checks: dict[str, tuple[Check, int]] = {}
        self._found: dict[str, _Found] = {}
        self._broken: set[str] = set()
        self._turn = 0

    def add(self, name: str, check: Check, *, every: int = 1) -> None:
        """`check` answers what it finds now; it runs every so many seconds. A check that raises has failed.

        `every` 0: only memory is looked at, so it is asked anew at each question, and says something also when the thread hangs.
        """
        self._checks[name] = (check, every)

    def run(self) -> None:
        """The checks whose turn it is; called once a second. None keeps another from running."""
        for name, (check, every) in self._checks.items():
            held = self._found.get(name)
            if every and (held is None or self._turn % every == 0 or self._clock() - held.at >= every):
                self._found[name] = _Found(self._look(name, check), self._clock())
        self._turn += 1

    def _look(self, name: str, check: Check) -> Finding:
        try:
            found = check()
        except GatekeyError as error:
            found = Finding(FAIL, error.message, error.hint)
        except Exception as error:  # noqa: BLE001  what was found before must not stand there for ever, and the others must have their turn
            if name not in self._broken:
                self._broken.add(name)
                self._tell(name, error)
            # Not the words of a stranger's error: they may hold anything.
            return Finding(FAIL, f"this check breaks off with {type(error).__name__}: a fault in the program", "the log says where; please report it")
        self._broken.discard(name)
        return found

    @property
    def findings(self) -> dict[str, Finding]:
        """What every check has found; a failure where that is too long ago."""
        now = self._clock()
        found = {name: self._look(name, check) for name, (check, every) in self._checks.items() if not every}
        return {name: _fresh(one, now) for name, one in list(self._found.items())} | found

    def answer(self, call: Call, *, known: bool = False) -> Answer:
        """200 when nothing fails (warnings may stand there), else 503; the checks as JSON either way.

        With the words, which may name files, only to who opened our own socket, and to who is `known`.
        """
        told = known or call.listener == "proxy"
        found = self.findings
        checks = {}
        for name, finding in sorted(found.items()):
            checks[name] = {"state": finding.state}
            if told and finding.state != OK:
                checks[name] |= {"message": finding.message, "remedy": finding.remedy}
        ready = bool(self._found) and all(finding.state != FAIL for finding in found.values())
        return as_json({"ready": ready, "checks": checks}, status=200 if ready else 503)


def _fresh(one: _Found, now: float) -> Finding:
    age = int(now - one.at)
    if age <= STALE:
        return one.finding
    words = f"nobody has looked for {age} seconds (then it was {one.finding.state}): the housekeeping of this worker hangs"
    return Finding(FAIL, words, "reload the service for new workers (systemctl reload gatekey); its log, and disks that do not answer, may say why")


__all__ = ["FAIL", "OK", "WARN", "Check", "Finding", "Health", "alive"]
