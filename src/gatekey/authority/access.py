"""Who may do what: roles are given and taken here, tokens are made, and a caller's certificate or token is turned into what it may."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import Refused
from ..model.access import PREFIX, ROLES, SCOPES, Caller, Token, scopes_of, token_id
from ..model.instants import DAY
from ..store import access as rows
from ..store.database import Transaction
from ..x509.certificate import Certificate, read_certificate
from . import people

if TYPE_CHECKING:
    from .authority import Authority

#: Longest life of a token (days).
MOST_DAYS = 366
#: A token is noted as used at most this often (seconds): a write per request would be too dear.
_NOTE_EVERY = 3600


def roles(authority: Authority, login: str) -> tuple[str, ...]:
    """The roles of a holder."""
    with authority.ledger.db.read() as tx:
        return rows.roles(tx, login)


def everybodys_roles(authority: Authority) -> dict[str, tuple[str, ...]]:
    """Login -> roles, of all who have some."""
    with authority.ledger.db.read() as tx:
        return rows.everybodys_roles(tx)


def set_roles(authority: Authority, login: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> tuple[str, ...]:
    """Gives and takes roles. Raises Refused for one that there is not, or when nobody would be administrator any more."""
    holder = people.get(authority, login)
    if unknown := [role for role in (*add, *remove) if role not in ROLES]:
        raise Refused("bad-role", f"{unknown[0]!r} is not a role", hint=f"roles are {', '.join(ROLES)}")
    with authority.ledger.db.transaction("set roles", joins=True) as tx:
        if add:
            _here(tx, holder.login)
        wanted = tuple(sorted({*rows.roles(tx, holder.login), *add} - set(remove)))
        if "administrator" in remove:
            keep_one(tx, holder.login)
        rows.set_roles(tx, holder.login, wanted, authority.actor, authority.now())
    return wanted


def _here(tx: Transaction, login: str) -> None:
    """Refuses who has left. Asked inside the transaction that gives: whoever leaves at the same moment must not come out of it with a role or a token."""
    if rows.has_left(tx, login):
        raise Refused("holder-left", f"{login} has left", hint=f"gatekey people set {login} --back")


def keep_one(tx: Transaction, login: str, hint: str = "") -> None:
    """Refuses what would take away the only administrator. Asked inside the transaction that takes: two who go at the same moment must not both be let go.

    Raises Refused("last-administrator").
    """
    if rows.holders_of(tx, "administrator") == (login,):
        first = "give somebody else the role first: gatekey people set LOGIN --role administrator"
        raise Refused("last-administrator", f"{login} is the only administrator", hint=f"{first}{hint}")


def holders_of(authority: Authority, role: str) -> tuple[str, ...]:
    """Logins of everybody who has a role, sorted."""
    with authority.ledger.db.read() as tx:
        return rows.holders_of(tx, role)


def is_last(authority: Authority, login: str) -> bool:
    """Whether somebody is the only administrator at this moment."""
    return holders_of(authority, "administrator") == (login,)


def make_token(authority: Authority, login: str, scopes: Sequence[str], *, about: str = "", days: int = 90) -> tuple[Token, str]:
    """A token for a holder, and its secret, which is told this once. It may never do more than the holder's roles allow at the moment of use.

    Raises Refused for a scope that there is not or that the holder does not have, NotFound.
    """
    holder = people.get(authority, login)
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise Refused("bad-scope", f"{unknown[0]!r} is not a scope", hint=f"scopes are {', '.join(SCOPES)}")
    if not scopes or not 1 <= days <= MOST_DAYS:
        raise Refused("bad-scope", f"a token has one scope or more, and lives 1 to {MOST_DAYS} days")
    now = authority.now()
    short = authority.entropy.bytes(8).hex()
    secret = base64.b32encode(authority.entropy.bytes(25)).decode().lower()
    token = Token(short, holder.login, tuple(scope for scope in SCOPES if scope in scopes), about, now, now + days * DAY, 0, 0)
    with authority.ledger.db.transaction("add token", joins=True) as tx:
        _here(tx, holder.login)
        allowed = scopes_of(rows.roles(tx, holder.login))
        if beyond := [scope for scope in scopes if scope not in allowed]:
            may = ", ".join(allowed) or "nothing"
            raise Refused("scope-beyond-role", f"{holder.login} may not {beyond[0]}", hint=f"the roles of {holder.login} allow: {may}")
        rows.add_token(tx, token, _digest(secret), authority.actor)
    return token, f"{PREFIX}{short}_{secret}"


def tokens(authority: Authority, login: str = "") -> list[Token]:
    """All tokens, or those of one holder. Never a secret."""
    with authority.ledger.db.read() as tx:
        return rows.tokens(tx, people.get(authority, login).login if login else "")


def revoke_token(authority: Authority, text: str) -> str:
    """A token is worth nothing from now on. `text`: its short name, or all of it, of which nothing else is looked at; answers with the short name.

    Raises NotFound.
    """
    short = token_id(text)
    with authority.ledger.db.transaction("revoke token", joins=True) as tx:
        rows.revoke_token(tx, short, authority.actor, authority.now())
    return short


def caller_of_token(authority: Authority, text: str) -> Caller:
    """Whom a token speaks for; nobody when it is unknown, expired, revoked, or its holder has left. The secret is compared in constant time."""
    short, _, secret = text.removeprefix(PREFIX).partition("_")
    with authority.ledger.db.read() as tx:
        found = rows.find_token(tx, short)
    now = authority.now()
    right = hmac.compare_digest(found[1] if found else "", _digest(secret))
    if found is None or not right or found[0].revoked_at or not found[0].created_at <= now < found[0].expires_at or not text.startswith(PREFIX):
        return Caller(way="token")
    token = found[0]
    if now - token.used_at >= _NOTE_EVERY:
        with authority.ledger.db.transaction("note token use") as tx:
            rows.used(tx, token.id, now)
    allowed = scopes_of(roles(authority, token.login))
    return Caller(token.login, tuple(scope for scope in token.scopes if scope in allowed), "token", token.expires_at)


def caller_of_certificate(authority: Authority, certificate: Certificate) -> Caller:
    """Whom a client certificate that TLS has verified speaks for: it must come from our people's side, be live now, and be in the ledger byte for byte."""
    now = authority.now()
    people_side = {record.name: authority.issuing(record.name).certificate.subject for record in authority.side("people")}
    for record in authority.reads.by_fingerprint(certificate.fingerprint):
        if people_side.get(record.issuer) != certificate.issuer or record.status(now) != "valid" or record.kind in ("authority", "server"):
            continue
        holder = authority.reads.holder(record.holder)
        if holder is None or holder.left_at:
            break
        return Caller(holder.login, scopes_of(roles(authority, holder.login)), "certificate", record.not_after + 1)
    return Caller(way="certificate")


class Proxies:
    """Whether a certificate that TLS has verified belongs to a web server with the scope `decide`; remembered until anything changes in the ledger.

    `event` tells the number of the newest change that this process has taken in.
    """

    _MOST, _SECONDS = 1000, 10

    def __init__(self, authority: Authority, event: Callable[[], int]) -> None:
        self._authority = authority
        self._event = event
        self._told: dict[bytes, tuple[int, int, Caller]] = {}

    def __call__(self, der: bytes) -> bool:
        event, now = self._event(), self._authority.now()
        at_event, at, caller = self._told.get(der, (-1, 0, Caller()))
        if at_event != event or not at <= now < min(at + self._SECONDS, caller.until or now + 1):  # certificates end without a change
            caller = caller_of_certificate(self._authority, read_certificate(der))
            if len(self._told) >= self._MOST:
                self._told.clear()
            self._told[der] = (event, now, caller)
        return caller.may("decide")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


#: What is said to whoever is nobody. Nothing of why: a stranger must not learn whether what he has was ever good.
_NOBODY = {
    "none": "a client certificate with a role, or a token, is needed here",
    "token": "the token that was given is not in force: it is unknown, revoked, over, or its holder has left",
    "certificate": "the certificate that was shown is not in force here: it is revoked, held, over, of another authority, or its holder has left",
}


def nobody(way: str = "none") -> Refused:
    """The refusal of somebody who has not signed in; `way`: what he tried."""
    return Refused("sign-in", _NOBODY[way], hint="gatekey people set LOGIN --role operator; gatekey token add LOGIN --scope read")


def need(caller: Caller, scope: str) -> None:
    """Raises Refused("sign-in") when nobody is there, Refused("forbidden") when the caller may not."""
    if not caller.login:
        raise nobody(caller.way)
    if not caller.may(scope):
        raise Refused("forbidden", f"{caller.login} may not do this", hint=f"it needs the scope {scope}", scope=scope)
