"""/healthz: the process lives. /readyz: every named check, what it found and what to do; not ready when one of them fails."""

from __future__ import annotations

from collections.abc import Callable

from ..authority.health import FAIL, OK, WARN, Finding
from ..errors import GatekeyError
from ..protocols.message import Answer, Call, as_json

Check = Callable[[], Finding]


def alive(_: Call) -> Answer:
    """The process answers: no more is promised."""
    return Answer(200, (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store")), b"ok\n")


class Health:
    """Named checks. They run in the housekeeping thread; a question is answered from memory, so asking often costs nothing."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[Check, int]] = {}
        self._found: dict[str, Finding] = {}
        self._turn = 0

    def add(self, name: str, check: Check, *, every: int = 1) -> None:
        """`check` answers what it finds now; it runs every so many seconds. A check that raises has failed."""
        self._checks[name] = (check, every)

    def run(self) -> None:
        """The checks whose turn it is; called once a second."""
        for name, (check, every) in self._checks.items():
            if self._turn % every == 0 or name not in self._found:
                try:
                    self._found[name] = check()
                except GatekeyError as error:
                    self._found[name] = Finding(FAIL, error.message, error.hint)
        self._turn += 1

    @property
    def findings(self) -> dict[str, Finding]:
        return dict(self._found)

    @property
    def ready(self) -> bool:
        return bool(self._found) and all(finding.state != FAIL for finding in self._found.values())

    def answer(self, call: Call, *, known: bool = False) -> Answer:
        """200 when nothing fails (warnings may stand there), else 503; the checks as JSON either way.

        With the words, which may name files, only to who opened our own socket, and to who is `known`.
        """
        told = known or call.listener == "proxy"
        checks = {}
        for name, finding in sorted(self.findings.items()):
            checks[name] = {"state": finding.state}
            if told and finding.state != OK:
                checks[name] |= {"message": finding.message, "remedy": finding.remedy}
        return as_json({"ready": self.ready, "checks": checks}, status=200 if self.ready else 503)


__all__ = ["FAIL", "OK", "WARN", "Check", "Finding", "Health", "alive"]
