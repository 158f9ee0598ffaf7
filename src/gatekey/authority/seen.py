"""Who was let in last and when: remembered in memory at each request, and written into the ledger every few seconds, so that no request waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..store import seen as rows
from ..store.seen import Sight
from . import clock

if TYPE_CHECKING:
    from ..model.record import CertificateRecord
    from .authority import Authority
    from .standing import Changes

__all__ = ["Seen", "Sight", "everything", "last", "of_page"]

#: Seconds between two writings, and how many rows one transaction takes: other writers wait no longer than that.
EVERY, MOST = 5, 1000
#: Sites that are told of to the revocation clock; web servers name them, and a company has few.
MOST_SITES = 100


class Seen:
    """What one process has seen and not written yet. A process that is killed forgets the last seconds; nothing else depends on them."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._clock = authority.clock
        self._new: dict[tuple[str, str], tuple[int, str]] = {}
        self._written_at = authority.now()
        # The revocations that the view holds for certain, and when each site first asked since it does.
        self._since: tuple[int, dict[str, int]] = (0, {})
        self._ahead = 0
        self._told: dict[str, int] = {}

    def follow(self, changes: Changes | None) -> None:
        """Hears of each comparison of the view with the ledger. What was counted after the last one, this one has brought into the view."""
        if self._ahead != self._since[0]:
            self._since = (self._ahead, {})
        if clock.moves(changes):
            self._ahead = self._authority.reads.revocation_number()

    def note(self, issuer: str, serial: str, site: str) -> None:
        """Hears of everybody who was let in. An entry or two of a dictionary, whatever the number of requests."""
        now, asked = self._clock.now(), self._since[1]
        self._new[issuer, serial] = (now, site)
        if site and site not in asked and len(asked) < MOST_SITES:
            asked[site] = now

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
        self._tell_sites()

    def _tell_sites(self) -> None:
        """A site that asks takes a revocation over when it asks first with the view holding it: the revocation clock hears of that."""
        number, asked = self._since
        for site, at in list(asked.items()):
            if number > self._told.get(site, 0):
                clock.note(self._authority, f"{clock.SITE}{site}", number, at)
                self._told[site] = number


def last(authority: Authority, issuer: str, serial: str) -> Sight | None:
    """When a certificate was last let in, as far as web servers that ask at each request have told; None for never."""
    with authority.ledger.db.read() as tx:
        return rows.of(tx, issuer, serial)


def of_page(authority: Authority, page: Sequence[CertificateRecord]) -> dict[tuple[str, str], Sight]:
    """The same for these certificates, by issuer and serial, in one question."""
    with authority.ledger.db.read() as tx:
        return {(sight.issuer, sight.serial): sight for sight in rows.among(tx, [one.serial for one in page])}


def everything(authority: Authority) -> dict[tuple[str, str], Sight]:
    """The same for all certificates, by issuer and serial."""
    with authority.ledger.db.read() as tx:
        return {(sight.issuer, sight.serial): sight for sight in rows.everything(tx)}
