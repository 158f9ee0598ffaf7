"""Who was let in last and when: remembered in memory at each request, and written into the ledger every few seconds, so that no request waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..store import seen as rows
from ..store.seen import Sight

if TYPE_CHECKING:
    from .authority import Authority

__all__ = ["Seen", "Sight", "everything", "last"]

#: Seconds between two writings, and how many rows one transaction takes: other writers wait no longer than that.
EVERY, MOST = 5, 1000


class Seen:
    """What one process has seen and not written yet. A process that is killed forgets the last seconds; nothing else depends on them."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._clock = authority.clock
        self._new: dict[tuple[str, str], tuple[int, str]] = {}
        self._written_at = authority.now()

    def note(self, issuer: str, serial: str, site: str) -> None:
        """Hears of everybody who was let in. One entry of a dictionary, whatever the number of requests."""
        self._new[issuer, serial] = (self._clock.now(), site)

    def look(self) -> None:
        """Once a second: writes when it is time. Raises what the store raises; then nothing is forgotten."""
        now = self._clock.now()
        if not 0 <= now - self._written_at < EVERY:
            self._written_at = now
            self.write()

    def write(self) -> None:
        """Writes everything now. Raises what the store raises."""
        taken, self._new = self._new, {}
        waiting = [Sight(issuer, serial, at, site) for (issuer, serial), (at, site) in list(taken.items())]
        while waiting:
            try:
                with self._authority.ledger.db.transaction("note seen") as tx:
                    rows.note(tx, waiting[:MOST])
            except BaseException:
                for sight in waiting:  # what came meanwhile is newer
                    self._new.setdefault((sight.issuer, sight.serial), (sight.at, sight.site))
                raise
            del waiting[:MOST]


def last(authority: Authority, issuer: str, serial: str) -> Sight | None:
    """When a certificate was last let in, as far as web servers that ask at each request have told; None for never."""
    with authority.ledger.db.read() as tx:
        return rows.of(tx, issuer, serial)


def everything(authority: Authority) -> dict[tuple[str, str], Sight]:
    """The same for all certificates, by issuer and serial."""
    with authority.ledger.db.read() as tx:
        return {(sight.issuer, sight.serial): sight for sight in rows.everything(tx)}
