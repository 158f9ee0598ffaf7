"""Would we let this certificate in: path, dates and usage by RFC 5280, revocation by our own ledger, which knows more than any CRL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.instants import iso
from ..model.status import ABANDONED
from ..x509.certificate import Certificate
from ..x509.names import display
from ..x509.path import CHECKS, Finding, Verdict, validate

if TYPE_CHECKING:
    from .authority import Authority

#: An instant not longer ago than this is now: who asks about now has read the clock before we do (seconds).
_ASKED_LATELY = 5


def verify(authority: Authority, leaf: Certificate, others: list[Certificate], *, at: int, purpose: str = "client") -> Verdict:
    """Judges `leaf` at the instant `at` (POSIX seconds) as our web servers ("client") or browsers ("server") would. `others`: what came along with it."""
    side = authority.side("people" if purpose == "client" else "servers")
    ours = [authority.issuing(record.name).certificate for record in side]
    roots = [authority.issuing(record.name).certificate for record in side if record.is_root]
    verdict = validate(leaf, [*ours, *others], roots, at=at, purpose=purpose, crls=None)
    found = _revocation(authority, leaf, at)
    checked = tuple(check for check in CHECKS if check in verdict.checked or check == "revocation")
    return verdict._replace(findings=(*verdict.findings, *found), checked=checked)


def _revocation(authority: Authority, leaf: Certificate, at: int) -> tuple[Finding, ...]:
    subject = display(leaf.subject) or leaf.serial
    for record in authority.reads.by_serial(leaf.serial):
        if authority.issuing(record.issuer).certificate.subject != leaf.issuer:
            continue
        if record.state == ABANDONED or record.fingerprint != leaf.fingerprint:
            return (Finding("revocation", "not-ours", subject, "its serial is ours, but this certificate never left us"),)
        # A clock that was ahead may have put the revocation into the future; it holds now all the same.
        if record.revoked_at is not None and (record.revoked_at <= at or at >= authority.now() - _ASKED_LATELY):
            word = "on hold" if record.revoked_reason == "certificate-hold" else "revoked"
            facts = {"at": record.revoked_at, "reason": record.revoked_reason}
            return (Finding("revocation", "revoked", subject, f"it is {word} since {iso(record.revoked_at)} ({record.revoked_reason})", facts),)
        return ()
    if any(authority.issuing(record.name).certificate.fingerprint == leaf.fingerprint for record in authority.records()):
        return ()
    return (Finding("revocation", "unknown", subject, "our ledger does not know it"),)
