"""Who may do what: roles of holders, scopes of tokens, and what each role may."""

from __future__ import annotations

import re
from typing import NamedTuple

#: What can be allowed. `read`: look at everything; `issue`: certificates and renewals; `revoke`: revoke, hold, leave; `people`: change people; `manage`: roles,
#: tokens, profiles, CRLs by hand, knocking at sites; `decide`: ask whom to let in, and fetch bundles.
SCOPES = ("read", "issue", "revoke", "people", "manage", "decide")

#: role -> scopes.
ROLES: dict[str, tuple[str, ...]] = {
    "auditor": ("read",),
    "operator": ("read", "issue", "revoke", "people"),
    "administrator": ("read", "issue", "revoke", "people", "manage"),
    "proxy": ("decide",),
}


#: How a token begins: `gkt_ID_SECRET`.
PREFIX = "gkt_"
#: One that stands in other words, percent-encoded or not: what may be told of it, and what may not. `gkt_...` is none.
_TOKEN = re.compile(r"(gkt(?:_|%5f)(?:[0-9a-f]{16}(?=_|%5f))?)(?!\.\.\.)[^\s'\"/?&;,)]+", re.IGNORECASE)


class Caller(NamedTuple):
    """Who asks. `login` "" for nobody. `scopes` is all that this caller may, however it signed in. `way`: certificate, token or none, also of nobody's.

    `until`: when that certificate or token ends (POSIX seconds, the first at which it counts no more); 0 for nobody.
    """

    login: str = ""
    scopes: tuple[str, ...] = ()
    way: str = "none"
    until: int = 0

    def may(self, scope: str) -> bool:
        return scope in self.scopes


class Shown(NamedTuple):
    """By what somebody has signed in: the short name of a `token`, or the SHA-256 of a `certificate` (upper-case hex); and the scope that he needs."""

    way: str
    mark: str
    scope: str


class Token(NamedTuple):
    """A token as it is listed: never its secret. Times in POSIX seconds, 0 for never."""

    id: str
    login: str
    scopes: tuple[str, ...]
    about: str
    created_at: int
    expires_at: int
    revoked_at: int
    used_at: int


def token_id(text: str) -> str:
    """The short name of a token, out of that name or out of the whole token."""
    return text.removeprefix(PREFIX).partition("_")[0] if text.startswith(PREFIX) else text


def without_tokens(text: str) -> str:
    """Words for a log or an answer: of a token that stands in them (in a path, where its short name was meant) nothing is left but that name."""
    return _TOKEN.sub(_cut, text)


def _cut(found: re.Match[str]) -> str:
    rest = found[0][len(found[1]) :]
    return found[0] if re.fullmatch(r"[0-9a-f]{16}", rest, re.IGNORECASE) else f"{found[1]}***"


def scopes_of(roles: tuple[str, ...]) -> tuple[str, ...]:
    """All that these roles allow together, in the order of `SCOPES`."""
    allowed = {scope for role in roles for scope in ROLES.get(role, ())}
    return tuple(scope for scope in SCOPES if scope in allowed)
