"""Every certificate that opens a door, in memory, kept up to date from the audit log; what is not here is not let in.

Only live certificates are held: a million revoked ones cost nothing. The audit log is the feed: each change of anything writes its event in the same
transaction, so its number tells whether there is something new, and its events tell what.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..model.request import CertificateId
from ..model.standing import EXPIRED, LEFT, NOT_YET, STALE, UNKNOWN, WRONG_GROUP, Decision, Known

if TYPE_CHECKING:
    from ..model.holder import Holder
    from ..model.record import CertificateRecord
    from ..ports import Clock
    from ..store.reads import Reads

#: A view that has not been compared with the ledger for this long answers no to everybody (seconds).
STALE_AFTER = 5


class Standing:
    """The view of one process. `refresh` must be called often (ten times a second); `decide` never touches the ledger."""

    def __init__(self, reads: Reads, clock: Clock, issuers: dict[str, str], sites: dict[str, tuple[str, ...]]) -> None:
        """`issuers`: DN in RFC 2253 form as OpenSSL prints it -> short name of the authority. `sites`: host -> groups that may enter."""
        self._reads = reads
        self._clock = clock
        self._issuers = issuers
        self._sites = sites
        self._known: dict[tuple[str, str], Known] = {}
        self._of: dict[str, set[CertificateId]] = {}
        self._gone: set[str] = set()
        self._event = -1
        self.checked_at = 0

    @property
    def event(self) -> int:
        """Number of the last audit event that this view has taken in; -1 before the first load."""
        return self._event

    def __len__(self) -> int:
        return len(self._known)

    def refresh(self) -> bool:
        """Compares with the ledger and takes in what is new; says whether anything was. Raises what the store raises: the view then grows stale, and closes."""
        newest = self._reads.newest_event()
        changed = newest != self._event
        # The number is moved on last: what broke off in the middle is taken in again, from where it began. Nothing that was taken away is ever missed.
        if self._event < 0:
            self._load()
        elif changed:
            newest = max(newest, self._follow(self._event + 1))
        self._event = max(self._event, newest)
        self.checked_at = self._clock.now()
        return changed

    def _load(self) -> None:
        """The number of the newest event was read before these rows: what comes later is taken in again."""
        now = self._clock.now()
        holders = {holder.login: holder for holder in self._reads.holders("person", "device", "service", "server")}
        for record in self._reads.alive(now - STALE_AFTER, issuers=tuple(self._issuers.values())):
            self._put(record, holders.get(record.holder))

    def _follow(self, first: int) -> int:
        """Takes in the events from `first` on and answers with the number of the last."""
        last = 0
        certificates: set[CertificateId] = set()
        logins: set[str] = set()
        for number, action, subject in self._reads.changes(first):
            if action.startswith("certificate.") and action != "certificate.record":  # what was never released opens no door
                issuer, _, serial = subject.partition("/")
                certificates.add(CertificateId(issuer, serial))
            elif action.startswith("holder."):
                logins.add(subject)
            last = number
        for login, holder in self._named(logins).items():
            self._gone.add(login) if holder.left_at else self._gone.discard(login)
            certificates |= self._of.get(login, set())
        self._again(certificates)
        return last

    def _named(self, logins: Collection[str]) -> dict[str, Holder]:
        return {holder.login: holder for holder in self._reads.holders_named(sorted(logins)).values()}

    def _again(self, certificates: set[CertificateId]) -> None:
        """Reads these certificates anew: all of them together, since a busy authority issues hundreds between two looks."""
        ours = [one for one in certificates if one.issuer in self._issuers.values()]
        live = [one for one in self._reads.by_ids(ours) if one.state == "released" and one.revoked_at is None]
        holders = self._named({record.holder for record in live})
        for record in live:  # in place of what was known: whoever is let in now must not be unknown in between
            self._put(record, holders.get(record.holder))
        for one in certificates - {record.id for record in live}:
            if known := self._known.pop(one, None):
                self._of[known.login].discard(one)

    def _put(self, record: CertificateRecord, holder: Holder | None) -> None:
        if holder is None or record.kind == "authority" or record.profile == "ocsp-responder":  # theirs are for signing, not for doors
            return
        if holder.left_at:
            self._gone.add(holder.login)
        key = record.id
        self._known[key] = Known(
            record.issuer, record.serial, record.not_before, record.not_after, holder.login, holder.name, holder.email, holder.groups, record.device
        )
        self._of.setdefault(holder.login, set()).add(key)

    def decide(self, issuer_dn: str, serial: str, site: str = "", groups: tuple[str, ...] = ()) -> Decision:
        """Whether the certificate of this issuer (RFC 2253 form) and serial (hex) may enter the site now. Unknown, held, revoked, abandoned: no.

        `groups`: of which the web server itself asks for one, beside the groups of the site.
        """
        now = self._clock.now()
        if not self.checked_at <= now <= self.checked_at + STALE_AFTER or self._event < 0:
            return Decision(False, STALE)
        known = self._known.get((self._issuers.get(issuer_dn, ""), serial.upper().zfill(32)))
        if known is None:
            return Decision(False, UNKNOWN)
        if known.login in self._gone:
            return Decision(False, LEFT, known)
        if now > known.not_after:
            return Decision(False, EXPIRED, known)
        if now < known.not_before:
            return Decision(False, NOT_YET, known)
        for wanted in (self._sites.get(site.lower(), ()), groups):
            if wanted and not set(wanted) & set(known.groups):
                return Decision(False, WRONG_GROUP, known)
        return Decision(True, "", known)
