"""Who may do what: roles of holders, scopes of tokens, and what each role may."""

from __future__ import annotations

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


class Caller(NamedTuple):
    """Who asks. `login` "" for nobody. `scopes` is all that this caller may, however it signed in. `way`: certificate, token or none.

    `until`: when that certificate or token ends (POSIX seconds, the first at which it counts no more); 0 for nobody.
    """

    login: str = ""
    scopes: tuple[str, ...] = ()
    way: str = "none"
    until: int = 0

    def may(self, scope: str) -> bool:
        return scope in self.scopes


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


def scopes_of(roles: tuple[str, ...]) -> tuple[str, ...]:
    """All that these roles allow together, in the order of `SCOPES`."""
    allowed = {scope for role in roles for scope in ROLES.get(role, ())}
    return tuple(scope for scope in SCOPES if scope in allowed)
