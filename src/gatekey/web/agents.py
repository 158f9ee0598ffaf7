"""The long poll of the agents: one package per change and worker, made in the background, and as many waiting questions as there are connections."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from ..authority import clock, package
from ..errors import GatekeyError, Unavailable
from ..protocols import agents
from ..protocols.message import Answer, Call

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..authority.package import Mark, Package
    from ..authority.standing import Changes, Standing
    from .logs import Log

#: Seconds: how long packages go on being made although nobody asks; how long somebody waits for the first one; how often a CRL that lags behind is looked for.
_ASKED_LATELY, _FIRST, _AGAIN = 300.0, 10.0, 0.02
#: Seconds between attempts after one that failed.
_AFTER_FAILURE = 2.0
#: What is only new may wait: certificates that come within this many seconds, or within so many times what a bundle takes to make, share one.
_GATHER, _SHARE = 1.0, 4.0
_ONLY_NEW = ("certificate.release", "certificate.abandon", "certificate.record")


class Agents:
    """The endpoints of one worker. `follow` is told after each comparison with the ledger; `end` lets everybody go who waits."""

    def __init__(self, authority: Authority, standing: Standing, log: Log) -> None:
        self._authority = authority
        self._desk = agents.Desk(authority, standing)
        self._maker = package.Maker(authority)
        self._log = log
        self._package: Package | None = None
        self._begun = 0.0  # when the making of that package began
        self._mark: Mark | None = None
        self._urgent = True
        self._rested = 0.0  # from when on what is not urgent has its turn
        self._asked = -_ASKED_LATELY
        self._waiting: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = ""

    @property
    def waiting(self) -> int:
        """How many questions wait now."""
        return len(self._waiting)

    def follow(self, changes: Changes | None = None) -> None:
        """Wakes the other thread when there is a revocation to note, or while agents ask, when the state is another one than that of the package."""
        if changes is None or any(action not in _ONLY_NEW for action in changes):
            self._urgent = True
        if (self._wanted() and self._look()) or clock.moves(changes):
            self._poke()

    async def bundle(self, call: Call) -> Answer:
        """The bundle when it is another than the agent's, as soon as it is. Raises Malformed, Refused, Unavailable."""
        wanted = agents.wanted(call)
        who = await asyncio.to_thread(self._desk.admitted, call)
        self._loop = asyncio.get_running_loop()
        begun = time.monotonic()
        if not self._wanted():  # nobody has looked for so long
            await asyncio.to_thread(self._look)
        self._asked = begun
        if not self._current():
            self._poke()
        while True:
            spent = time.monotonic() - begun
            held, current = self._package, self._current()
            # With nothing to say yet even a hurried question waits a moment; an old package is better than none, when there cannot be another.
            patience = wanted.wait if current else max(wanted.wait, _FIRST)
            over = self._ending.is_set() or spent >= patience
            # While the ledger never holds still, no package is of the last moment: one that was begun after the question is good enough.
            if held and (current or over or self._begun >= begun) and (answer := agents.answer(held, wanted, last=over)):
                if answer.status == 200 and spent > 1 and not self._desk.still(who):
                    await asyncio.to_thread(self._desk.caller, call)
                return answer
            if over:
                raise Unavailable("no-bundle", self._failing or "there is no bundle yet", hint="it is being made; the service's log says what is in the way")
            await self._news(patience - spent)

    def report(self, call: Call) -> Answer:
        """An agent's web server has taken a revocation number over."""
        return self._desk.report(call)

    def renew(self, call: Call) -> Answer:
        """An agent's certificate is renewed."""
        return self._desk.renew(call)

    def end(self) -> None:
        """Everybody who waits is answered now. Called in the event loop."""
        self._ending.set()
        self._work.set()
        self._wake()

    def _wanted(self) -> bool:
        return time.monotonic() - self._asked <= _ASKED_LATELY

    def _look(self) -> bool:
        """Whether the state is another one than at the last look. Not told by events alone: a CRL is released without one."""
        before, self._mark = self._mark, package.mark(self._authority)
        if before and before.crls != self._mark.crls:
            self._urgent = True
        return self._mark != before

    def _current(self) -> bool:
        return self._package is not None and self._package.mark == self._mark

    async def _news(self, seconds: float) -> None:
        """Waits for the next package, or so long. One timer and one entry of a set: thousands may wait."""
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()
        self._waiting.add(news)
        timer = loop.call_later(max(seconds, 0.001), _done, news)
        try:
            await news
        finally:
            timer.cancel()
            self._waiting.discard(news)

    def _wake(self) -> None:
        for news in list(self._waiting):
            _done(news)

    # The other thread

    def _poke(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._make_often, name="bundles", daemon=True)
            self._thread.start()
        self._work.set()

    def _make_often(self) -> None:
        pause: float | None = None
        while not self._ending.is_set():
            self._work.wait(pause)
            self._work.clear()
            pause = None
            if self._ending.is_set():
                return
            try:
                pause = self._make()
                self._failing = ""
            except Exception as error:  # noqa: BLE001  the thread must live: agents keep what they have, and the log says why
                words = error.message if isinstance(error, GatekeyError) else "something went wrong here; the log has it"
                if words != self._failing:
                    self._log.failure("bundle-failed", error)
                self._failing, pause = words, _AFTER_FAILURE

    def _make(self) -> float | None:
        """Makes what is missing; answers in how many seconds it is tried again, None for not before something changes."""
        if not self._wanted() or self._current():
            self._note()
            return None
        begun, urgent = time.monotonic(), self._urgent
        if self._package and not urgent and begun < self._rested:
            return self._rested - begun
        self._urgent = False
        made = self._maker.make()
        if made is None:
            self._urgent = urgent
            return _AGAIN
        took = time.monotonic() - begun
        self._rested = begun + took + max(_GATHER, _SHARE * took)
        self._package, self._begun = made, begun
        if self._mark is None or self._mark < made.mark:  # it was made of what the next comparison will find
            self._mark = made.mark
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)
        self._note()
        return None

    def _note(self) -> None:
        """The view of this worker holds every revocation that the mark holds: CRLs, OCSP and decisions of the service refuse them from now on."""
        clock.note(self._authority, clock.SERVICE, self._authority.reads.revocation_number())


def _done(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)
