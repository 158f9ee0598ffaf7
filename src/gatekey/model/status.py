"""The states of a certificate in the ledger, how it looks from outside, and the reasons of RFC 5280 5.3.1."""

from __future__ import annotations

#: Ledger states. recorded -> released, or recorded -> abandoned; nothing else, and nothing back.
RECORDED, RELEASED, ABANDONED = "recorded", "released", "abandoned"
MOVES = {RECORDED: (RELEASED, ABANDONED), RELEASED: (), ABANDONED: ()}

#: How a released certificate stands, seen from outside at one instant.
VALID, HELD, REVOKED, EXPIRED, NOT_YET = "valid", "held", "revoked", "expired", "not-yet-valid"
STATUSES = (VALID, HELD, REVOKED, EXPIRED, NOT_YET, ABANDONED)

#: CRLReason codes by the word on the command line (RFC 5280 5.3.1). 7 is unused; removeFromCRL (8) is for delta CRLs only.
REASONS = {
    "unspecified": 0,
    "key-compromise": 1,
    "ca-compromise": 2,
    "affiliation-changed": 3,
    "superseded": 4,
    "cessation-of-operation": 5,
    "certificate-hold": 6,
    "privilege-withdrawn": 9,
    "aa-compromise": 10,
}
#: What a person may give as --reason: hold has its own verb, and the CA and AA reasons are not for leaves.
REVOKE_REASONS = ("unspecified", "key-compromise", "affiliation-changed", "superseded", "cessation-of-operation", "privilege-withdrawn")


def reason_word(code: int) -> str:
    """The word for a CRLReason code; `unknown (n)` for one that RFC 5280 does not name."""
    return next((word for word, number in REASONS.items() if number == code), "remove-from-crl" if code == 8 else f"unknown ({code})")


def status(state: str, not_before: int, not_after: int, revoked_at: int | None, reason: str | None, now: int) -> str:
    """How a certificate stands at `now` (POSIX seconds). Revocation outranks expiry."""
    if state == ABANDONED:
        return ABANDONED
    if revoked_at is not None:
        return HELD if reason == "certificate-hold" else REVOKED
    if now > not_after:
        return EXPIRED
    return NOT_YET if now < not_before else VALID
