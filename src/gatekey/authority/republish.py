"""CRLs and the published folder follow the ledger, while a service runs: a first revocation at once, what comes in the second after it together.

A CRL of a million entries takes seconds to sign, so that bursts must share one. Whoever dies between the ledger's commit and the signature owes the web
servers a CRL; every process looks ten times a second whether one is owed, and a lease sees to it that one of them signs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import GatekeyError
from . import jobs
from .reconcile import published_behind

if TYPE_CHECKING:
    from .authority import Authority

#: The row of the lease.
NAME = "publish"
#: Seconds: a lease (the lease of a process that is gone counts no more); how long revocations are gathered; until what failed is tried again.
LEASE, GATHER, RETRY = 60, 1, 5


class Republisher:
    """One process's part. `lives`: whether the owner of a lease may still be there."""

    def __init__(self, authority: Authority, lives: Callable[[str], bool]) -> None:
        self._authority = authority
        self._lives = lives
        self._complete = self._owed = -1
        self._alone = threading.Lock()

    def look(self) -> None:
        """Called ten times a second. Signs what is owed since the last look, unless somebody is at it: a verb of the command line signs for itself.

        Raises what signing and writing raise.
        """
        number = self._authority.reads.revocation_number()
        if number == self._complete:
            return
        if not self._behind() and not published_behind(self._authority):
            self._complete, self._owed = number, -1
        elif self._owed < 0:
            self._owed = number
        else:
            for trouble in self.at_once():
                raise trouble

    def at_once(self) -> list[GatekeyError]:
        """Signs and publishes what is owed, if nobody else does and none was made in this second; answers with what failed."""
        if not self._alone.acquire(blocking=False):
            return []
        try:
            # No other thread of ours is at it: a lease of our own is one that could not be given back.
            jobs.free(self._authority, NAME, lambda owner: owner != self._authority.owner and self._lives(owner))
            return self._work() if jobs.claim(self._authority, NAME, LEASE) else []
        finally:
            self._alone.release()

    def _work(self) -> list[GatekeyError]:
        from .revoke import tell

        self._owed = -1
        outcome = "failed"
        try:
            troubles = tell(self._authority, set(self._behind()), refresh=None)
            outcome = f"failed: {troubles[0].message}" if troubles else "published"
        finally:
            jobs.finish(self._authority, NAME, GATHER if outcome == "published" else RETRY, outcome)
        return troubles

    def _behind(self) -> list[str]:
        return [name for name in self._authority.reads.crls_incomplete() if self._authority.has_key(name)]
