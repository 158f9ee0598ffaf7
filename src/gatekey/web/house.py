"""What the rooms behind the doors need, in one place. Made by `app.py` only, one for each worker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..authority.health import FAIL, OK, Finding
from ..authority.standing import STALE_AFTER
from ..errors import GatekeyError
from ..model.access import Caller

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..authority.standing import Changes, Standing
    from ..protocols.behind import Behind
    from ..protocols.decision import Door as Decision
    from ..protocols.message import Call
    from ..protocols.ocsp import Ocsp
    from ..protocols.published import Published
    from .agents import Agents
    from .api import Clerk
    from .health import Health
    from .limits import Limits
    from .logs import Log
    from .metrics import Meter
    from .seats import Seats


#: Seconds between two comparisons with the ledger: what a revocation needs to be felt.
COMPARE_EVERY = 0.02


class House:
    """One worker's view: the authority, who may enter, what is published, and how it is doing.

    `changed` holds functions that are called in the ticker's thread after each comparison with the ledger, and hear what it has found.
    `tenths` holds those that are called ten times a second in a thread of their own, and may take their time: CRLs that are owed.
    `seconds` holds those that are called once a second in a thread of their own: renewals, checks, sweeps. `jobs` too, in another: a mail server may be slow.
    `leaving` are called once in the event loop, when the process is told to end and still has requests; `endings`, when the last one is answered.
    """

    def __init__(
        self,
        *,
        authority: Authority,
        standing: Standing,
        published: Published,
        ocsp: Ocsp,
        decision: Decision,
        health: Health,
        meter: Meter,
        limits: Limits,
        seats: Seats,
        log: Log,
        behind: Behind | None = None,
        public_metrics: bool = False,
        api: Clerk | None = None,
        agents: Agents | None = None,
    ) -> None:
        self.authority = authority
        self.standing = standing
        self.published = published
        self.ocsp = ocsp
        self.decision = decision
        self.health = health
        self.meter = meter
        self.limits = limits
        self.seats = seats
        self.log = log
        self.behind = behind
        self.public_metrics = public_metrics
        self.api = api
        self.agents = agents
        self.changed: list[Callable[[Changes | None], None]] = []
        self.tenths: list[Callable[[], None]] = []
        self.seconds: list[Callable[[], None]] = []
        self.jobs: list[Callable[[], None]] = []
        self.leaving: list[Callable[[], None]] = []
        self.endings: list[Callable[[], None]] = []
        self._owed: set[Callable[[Changes | None], None]] = set()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def caller(self, call: Call) -> Caller:
        """Who asks, as the API sees it: nobody where there is none. Raises Refused, Malformed, Unavailable."""
        return Caller() if self.api is None else self.api.caller(call)

    def fresh(self) -> bool:
        """Whether the view was compared with the ledger lately; when it was not, nobody is let in and no certificate is called good."""
        return fresh(self.standing, self.authority)

    def load(self) -> None:
        """The first comparison, before the first request is answered. Raises what the store raises."""
        self.compare()
        for one in self.seconds:
            one()

    def compare(self) -> None:
        """Compares with the ledger and tells everybody who wants to know."""
        changes = self.standing.refresh()
        broken: Exception | None = None
        for one in self.changed:
            try:
                one(None if one in self._owed else changes)
                self._owed.discard(one)
            except Exception as error:  # noqa: BLE001  the others must hear of it all the same, and this one that it has missed something
                self._owed.add(one)
                broken = broken or error
        if broken is not None:
            raise broken

    def start(self) -> None:
        """Fifty comparisons a second (each a read of 10 us at rest), owed CRLs, housekeeping, jobs: none waits for a request, and no request for them."""
        rounds = (("compare", COMPARE_EVERY, [self.compare]), ("tenths", 0.1, self.tenths), ("seconds", 1.0, self.seconds), ("jobs", 1.0, self.jobs))
        for name, every, work in rounds:
            thread = threading.Thread(target=self._often, args=(name, every, work), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _often(self, name: str, every: float, work: list[Callable[[], None]]) -> None:
        failing = False
        while not self._stop.wait(every):
            for one in work:
                try:
                    one()
                    failing = False
                except Exception as error:  # noqa: BLE001  the view then grows stale, which closes the doors; the thread must live to open them again
                    if not failing:
                        self.log.failure(f"{name}-failed", error)
                    failing = True

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        for one in self.endings:
            try:
                one()
            except GatekeyError as error:  # the process ends all the same
                self.log.failure("ending-failed", error)
        self.authority.close()


def fresh(standing: Standing, authority: Authority) -> bool:
    """Whether this view was compared with the ledger within the last seconds."""
    return standing.event >= 0 and standing.checked_at <= authority.now() <= standing.checked_at + STALE_AFTER


def view(house: House) -> Finding:
    """The view of the ledger is fresh."""
    if house.fresh():
        return Finding(OK)
    return Finding(FAIL, f"the ledger was not read for more than {STALE_AFTER} seconds, so nobody is let in", "the log says why")
