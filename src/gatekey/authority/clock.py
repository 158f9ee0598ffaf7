"""The revocation clock: when a certificate was taken away, when each place took that over, and when it was last let in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Refused
from ..model.instants import DAY, iso
from ..store import takeover as rows
from . import seen

if TYPE_CHECKING:
    from ..model.record import CertificateRecord
    from .authority import Authority
    from .standing import Changes

#: Places: `CRL NAME` is written with the CRL itself (store/ledger.py), `agent LOGIN` or `agent LOGIN/NAME` when it reports, `site HOST` when its web server
#: has asked for a decision.
FOLDER, SERVICE, AGENT, SITE, CRL = "published folder", "service", "agent ", "site ", "CRL "
#: A place that has told nothing for this long (seconds) is not waited for any more: agents tell of every revocation, and nobody tells when one is dismantled.
FORGOTTEN = 30 * DAY
#: Events of the audit log that come with a new revocation number.
_REVOKING = frozenset(("certificate.revoke", "certificate.hold", "certificate.unhold", "certificate.abandon"))


class Tick(NamedTuple):
    """A place, and since when it refuses the certificate (POSIX seconds)."""

    place: str
    at: int


class Clock(NamedTuple):
    """`revoked_at` None: in force. `ticks` in the order of time; `waiting`: places that have not told yet. `let_in`: when and into which site, last."""

    revoked_at: int | None
    ticks: tuple[Tick, ...] = ()
    waiting: tuple[str, ...] = ()
    let_in: tuple[int, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "revoked_at": None if self.revoked_at is None else iso(self.revoked_at),
            "taken_over": [{"place": tick.place, "at": iso(tick.at)} for tick in self.ticks],
            "waiting": list(self.waiting),
            "last_let_in": {"at": iso(self.let_in[0]), "site": self.let_in[1]} if self.let_in else None,
        }

    def __str__(self) -> str:
        """One line: revoked 2026-11-23T16:01:02Z; CRL 16:01:02; published folder 16:01:02; agent web1 16:01:03; last let in 15:59:40."""
        first = self.revoked_at if self.revoked_at is not None else 0
        words = [f"revoked {iso(self.revoked_at)}"] if self.revoked_at is not None else []
        words += [f"{tick.place} {_near(tick.at, first)}" for tick in self.ticks]
        words += [f"{place} not yet" for place in self.waiting]
        if self.let_in:
            words.append(f"last let in {_near(self.let_in[0], first)}{f' at {self.let_in[1]}' if self.let_in[1] else ''}")
        return "; ".join(words)


def _near(at: int, day: int) -> str:
    """The time of day where the day is the same, otherwise all of it."""
    return iso(at)[11:19] if iso(at)[:10] == iso(day)[:10] else iso(at)


def of(authority: Authority, record: CertificateRecord) -> Clock:
    """The clock of one certificate of ours."""
    sight = seen.last(authority, record.issuer, record.serial)
    let_in = (sight.at, sight.site) if sight else None
    if record.revoked_at is None:
        return Clock(None, let_in=let_in)
    with authority.ledger.db.read() as tx:
        number = rows.number_of(tx, record.issuer, record.serial)
        if number is None:  # given back between the two questions
            return Clock(None, let_in=let_in)
        taken, newest = rows.first(tx, number), rows.newest(tx)
    mine = f"{CRL}{record.issuer}"
    counts = [place for place in newest if not place.startswith(CRL) or place == mine]
    ticks = [Tick("CRL" if place == mine else place, taken[place]) for place in counts if place in taken]
    ticks.sort(key=lambda tick: (tick.at, not tick.place.startswith(CRL.strip()), tick.place))
    # A site refuses from the moment at which the service does, whether somebody asks or not: it is never waited for.
    due = [place for place in counts if place not in taken and not place.startswith(SITE)]
    waiting = [place for place in due if newest[place][1] >= record.revoked_at - FORGOTTEN]
    return Clock(record.revoked_at, tuple(ticks), tuple("CRL" if place == mine else place for place in waiting), let_in)


def moves(changes: Changes | None) -> bool:
    """Whether there may be a new revocation number, after what a comparison with the ledger has found."""
    return changes is None or not _REVOKING.isdisjoint(changes)


def note(authority: Authority, place: str, number: int, at: int | None = None) -> None:
    """A place of our own knows every revocation up to `number`. Changes nothing for anybody, so it is no event of the audit log."""
    with authority.ledger.db.read() as tx:
        if rows.highest(tx, place) >= number:
            return
    with authority.ledger.db.transaction("note takeover") as tx:
        rows.note(tx, place, number, authority.now() if at is None else at)


def reported(authority: Authority, login: str, name: str, number: int, at: int) -> None:
    """An agent tells that its web server has taken a number over at `at` (POSIX seconds). Whose agent it is, is known from its certificate, not from its words.

    Raises Refused for a number that has not been given yet. A time that cannot be (before the revocation, or to come) becomes ours of now.
    """
    now = authority.now()
    if number > authority.reads.revocation_number():
        raise Refused("bad-report", f"revocation {number} has not happened yet", hint="is this the right service?")
    with authority.ledger.db.read() as tx:
        since = rows.revoked_at(tx, number) or 0
    place = f"{AGENT}{login}" if name in ("", login) else f"{AGENT}{login}/{name}"
    note(authority, place, number, at if since <= at <= now else now)
