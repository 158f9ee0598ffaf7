"""Whom a door lets in: what the decision endpoint answers, as values."""

from __future__ import annotations

from typing import NamedTuple

#: Why somebody is not let in; each has its sentence on the page of the refusal.
UNKNOWN, REVOKED, EXPIRED, NOT_YET, WRONG_GROUP, LEFT, STALE = "unknown", "revoked", "expired", "not-yet-valid", "wrong-group", "left", "stale"


class Known(NamedTuple):
    """A certificate that opens doors, and whose it is. Times in POSIX seconds. `issuer`: short name of the authority."""

    issuer: str
    serial: str
    not_before: int
    not_after: int
    login: str
    name: str
    email: str
    groups: tuple[str, ...]
    device: str


class Decision(NamedTuple):
    """Let in or not. `why`: "" or one of the words above. `who`: the holder, when he is known."""

    allowed: bool
    why: str = ""
    who: Known | None = None
