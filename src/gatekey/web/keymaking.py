"""Keys that take a while are made here: one at a time in a thread of their own, in turns of those who ask, and no more of them wait than are made soon.

The library lets go of the interpreter while it looks for primes, so that a key costs the others a processor at most. A second thread would cost them another.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..errors import Unavailable

T = TypeVar("T")

#: Keys that are being made or wait for it, in all and of one holder. All of them are there within the seconds that a worker has for its end.
MOST, MOST_EACH = 32, 8
#: Seconds after which it is worth asking again.
AGAIN = 5

_Line = deque[tuple[Callable[[], Any], "asyncio.Future[Any]"]]


def ending() -> Unavailable:
    """What is said to whoever asks a process that has no time left. Nothing was done."""
    return Unavailable("ending", "this process of the service ends, and had no time left for this", hint="ask again: another one answers", retry_after=1)


class Keymaker:
    """The keys of one worker."""

    def __init__(self) -> None:
        self._hand = ThreadPoolExecutor(1, "keys")
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._held: Counter[str] = Counter()
        self._working: asyncio.Task[None] | None = None
        self._ending = False

    def make(self, who: str, work: Callable[[], T]) -> asyncio.Future[T]:
        """What comes of `work`, which makes a key for `who`, when it is its turn. Raises Unavailable("too-many-requests", "ending")."""
        if self._ending:
            raise ending()
        if self._held[who] >= MOST_EACH or self._held.total() >= MOST:
            whose = f"{MOST_EACH} keys for {who}" if self._held[who] >= MOST_EACH else f"{MOST} keys"
            hint = f"ask again in {AGAIN} seconds, or make the key yourself and send its request: gatekey request"
            raise Unavailable("too-many-requests", f"{whose} are being made already, and each takes a while", hint=hint, retry_after=AGAIN)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._held[who] += 1
        future.add_done_callback(lambda _: self._done(who))
        self._lines.setdefault(who, deque()).append((work, future))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return future

    def send_away(self) -> None:
        """Nobody is waited for any more: whoever waits is told to ask again. Called in the event loop."""
        self._ending = True
        lines, self._lines = self._lines, OrderedDict()
        for _, future in itertools.chain(*lines.values()):
            if not future.done():
                future.set_exception(ending())

    def end(self) -> None:
        """Waits until the key that is being made is made: after this the ledger is closed."""
        self._hand.shutdown(cancel_futures=True)

    def _done(self, who: str) -> None:
        self._held[who] -= 1
        if not self._held[who]:
            del self._held[who]

    async def _work(self) -> None:
        """Makes keys until nobody waits. Between the last look and the end nothing is awaited: whoever comes after starts another."""
        try:
            while self._lines:
                work, future = self._next()
                if future.done():  # whoever asked was sent away
                    continue
                try:
                    made = await asyncio.get_running_loop().run_in_executor(self._hand, work)
                except Exception as fault:  # noqa: BLE001  whoever asked hears of it, and the others wait behind
                    if not future.done():
                        future.set_exception(fault)
                else:
                    if not future.done():
                        future.set_result(made)
        finally:
            self._working = None

    def _next(self) -> tuple[Callable[[], Any], asyncio.Future[Any]]:
        """The first of whoever has waited longest for a turn; who has more stands behind the others again."""
        who, line = self._lines.popitem(last=False)
        first = line.popleft()
        if line:
            self._lines[who] = line
        return first
