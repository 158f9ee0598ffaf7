"""Whom a door lets in: what the decision endpoint answers, as values."""

from __future__ import annotations

import re
from typing import NamedTuple

#: Why somebody is not let in; each has its sentence on the page of the refusal.
UNKNOWN, REVOKED, EXPIRED, NOT_YET, WRONG_GROUP, LEFT, STALE = "unknown", "revoked", "expired", "not-yet-valid", "wrong-group", "left", "stale"


#: A host with or without a port (RFC 9112 3.2); the port may be empty (RFC 3986 3.2.3).
_HOST = re.compile(r"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])\.?(?::[0-9]{0,5})?")


def host_of(text: str) -> str | None:
    """The host of a Host header: lower case, without port and final dot. None for what is no plain host[:port].

    There must be one spelling of a site only: a site that is not found has no rule of its own.
    """
    found = _HOST.fullmatch(text.lower()) if text.isascii() and len(text) < 300 else None
    return found[1] if found else None


class Known(NamedTuple):
    """A certificate that opens doors, and whose it is. Times in POSIX seconds. `issuer`: short name of the authority. `fingerprint`: SHA-256 of its DER."""

    issuer: str
    serial: str
    not_before: int
    not_after: int
    login: str
    name: str
    email: str
    groups: tuple[str, ...]
    device: str
    fingerprint: bytes = b""


class Decision(NamedTuple):
    """Let in or not. `why`: "" or one of the words above. `who`: the holder, when he is known."""

    allowed: bool
    why: str = ""
    who: Known | None = None
