"""Every certificate that opens a door, in memory, kept up to date from the audit log; what is not here is not let in.

Only live certificates are held: a million revoked ones cost nothing. The audit log is the feed: each change of anything writes its event in the same
transaction, so its number tells whether there is something new, and its events tell what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..model.standing import EXPIRED, LEFT, NOT_YET, STALE, UNKNOWN, WRONG_GROUP, Decision, Known

if TYPE_CHECKING:
    from ..ports import Clock
    from ..store.reads import Reads

#: A view that has not been compared with the ledger for this long answers no to everybody (seconds).
STALE_AFTER = 5

#: Subjects of audit events by their actions, as `audit.changes` tells them. Where there may be None instead, nobody knows what has happened: anything.
Changes = Mapping[str, Sequence[str]]


def happened(changes: Changes | None, *kinds: str) -> bool:
    """Whether there may have been an event whose action begins with one of `kinds`."""
    return changes is None or any(action.startswith(kinds) for action in changes)


class Standing:
    """The view of one process. `refresh` must be called often (ten times a second); `decide` never touches the ledger."""

    def __init__(
        self, reads: Reads, clock: Clock, issuers: dict[str, str], sites: dict[str, tuple[str, ...]], *, look: Callable[[], dict[str, str]] | None = None
    ) -> None:
        """`issuers`: DN in RFC 2253 form as OpenSSL prints it -> short name of the authority. `sites`: host -> groups that may enter.

        `look` tells the issuers again; asked when another authority was made or installed.
        """
        self._reads = reads
        self._clock = clock
        self._issuers = issuers
        self._names = frozenset(issuers.values())
        self._sites = sites
        self._look = look
        self._known: dict[str, Known] = {}  # by ISSUER/SERIAL, as the audit log writes it
        self._of: dict[str, set[str]] = {}
        self._gone: set[str] = set()
        self._event = -1
        self.checked_at = 0

    @property
    def event(self) -> int:
        """Number of the last audit event that this view has taken in; -1 before the first load."""
        return self._event

    def __len__(self) -> int:
        return len(self._known)

    def refresh(self) -> Changes | None:
        """Compares with the ledger, takes in what is new and says what that was; None at the first time.

        Raises what the store raises: the view then grows stale, and closes.
        """
        # The number is moved on last: what broke off in the middle is taken in again, from where it began. Nothing that was taken away is ever missed.
        if self._event < 0:
            newest, changes = self._reads.newest_event(), None
            self._load()
        else:
            newest, changes = self._reads.changes(self._event + 1)
            self._follow(changes)
        self._event = max(self._event, newest)
        self.checked_at = self._clock.now()
        return changes

    def _load(self) -> None:
        """The number of the newest event was read before these rows: what comes later is taken in again."""
        for known, left in self._reads.doors(since=self._clock.now() - STALE_AFTER):
            self._put(known, left)

    def _follow(self, changes: Changes) -> None:
        certificates: set[str] = set()
        for action, subjects in changes.items():
            if action.startswith("certificate."):
                certificates.update(subjects)
            elif action.startswith("holder."):
                certificates.update(*(self._of.get(login, ()) for login in subjects))
            elif action.startswith("authority.") and self._look:  # before the certificates that it has issued meanwhile are read
                self._issuers = self._look()
                self._names = frozenset(self._issuers.values())
        if certificates:
            self._again(certificates)

    def _again(self, certificates: set[str]) -> None:
        """Reads these certificates anew: all of them together, since a busy authority issues hundreds between two looks."""
        # In place of what was known: whoever is let in now must not be unknown in between.
        found = {self._put(known, left) for known, left in self._reads.doors([*certificates])}
        for key in certificates - found:
            if gone := self._known.pop(key, None):
                self._of[gone.login].discard(key)

    def _put(self, known: Known, left: bool) -> str:
        key = f"{known.issuer}/{known.serial}"
        if known.issuer in self._names:
            if left:
                self._gone.add(known.login)
            else:
                self._gone.discard(known.login)
            self._known[key] = known
            self._of.setdefault(known.login, set()).add(key)
        return key

    def decide(self, issuer_dn: str, serial: str, site: str = "", groups: tuple[str, ...] = (), fingerprint: bytes = b"") -> Decision:
        """Whether the certificate of this issuer (RFC 2253 form) and serial (hex) may enter the site now. Unknown, held, revoked, abandoned: no.

        `groups`: of which the web server itself asks for one, beside the groups of the site. `fingerprint`: SHA-256 of the certificate, where the web server
        gave all of it: issuer and serial can be written by anybody, so that what is not byte for byte ours is unknown.
        """
        now = self._clock.now()
        if not self.checked_at <= now <= self.checked_at + STALE_AFTER or self._event < 0:
            return Decision(False, STALE)
        known = self._known.get(f"{self._issuers.get(issuer_dn, '')}/{serial.upper().zfill(32)}")
        if known is None or (fingerprint and fingerprint != known.fingerprint):
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
