"""Roles and tokens. Secrets are kept as their SHA-256 only: they are long and random, so nothing slower is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from ..errors import NotFound, Refused
from ..model.access import Shown, Token, scopes_of
from . import audit
from .audit import Event
from .database import Transaction

_COLUMNS = "id, login, scopes, about, created_at, expires_at, revoked_at, used_at"


def roles(tx: Transaction, login: str) -> tuple[str, ...]:
    """The roles of a holder, sorted."""
    return tuple(row[0] for row in tx.all("SELECT role FROM role WHERE login = :login ORDER BY role", login=login))


def everybodys_roles(tx: Transaction) -> dict[str, tuple[str, ...]]:
    """Login -> roles, sorted, of all who have some."""
    found: dict[str, tuple[str, ...]] = {}
    for login, role in tx.all("SELECT login, role FROM role ORDER BY login, role"):
        found[login] = (*found.get(login, ()), role)
    return found


def holders_of(tx: Transaction, role: str) -> tuple[str, ...]:
    """Logins of everybody who has a role and has not left, sorted."""
    sql = "SELECT r.login FROM role r JOIN holder h ON h.login = r.login WHERE r.role = :role AND h.left_at IS NULL ORDER BY r.login"
    return tuple(row[0] for row in tx.all(sql, role=role))


def has_left(tx: Transaction, login: str) -> bool:
    """Whether a holder has left."""
    return tx.one("SELECT 1 FROM holder WHERE login = :login AND left_at IS NOT NULL", login=login) is not None


def set_roles(tx: Transaction, login: str, wanted: tuple[str, ...], actor: str, now: int) -> None:
    """The holder has exactly these roles from now on."""
    before = roles(tx, login)
    tx.run("DELETE FROM role WHERE login = :login", login=login)
    for role in sorted(set(wanted)):
        tx.insert("role", {"login": login, "role": role})
    audit.append(tx, now, Event(actor, "holder.roles", login, {"before": list(before), "after": sorted(set(wanted))}))


def add_token(tx: Transaction, token: Token, secret_sha256: str, actor: str) -> None:
    """A new token."""
    row = {**token._asdict(), "scopes": " ".join(token.scopes), "secret_sha256": secret_sha256, "revoked_at": None, "used_at": None}
    tx.insert("token", row)
    facts = {"login": token.login, "scopes": list(token.scopes), "expires": token.expires_at, "secret": digest_of(secret_sha256)}
    audit.append(tx, token.created_at, Event(actor, "token.add", token.id, facts))


def digest_of(secret_sha256: str) -> str:
    """What the audit log keeps of a token's secret: enough to see that another was put in its place, and of no use to whoever reads the log."""
    return hashlib.sha256(f"token {secret_sha256}".encode()).hexdigest()


def revoke_token(tx: Transaction, token_id: str, actor: str, now: int) -> None:
    """A token is worth nothing from now on. Raises NotFound when there is none in force."""
    if tx.run("UPDATE token SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL", now=now, id=token_id) != 1:
        raise NotFound("no-token", f"there is no token {token_id!r} in force", hint="gatekey token list")
    audit.append(tx, now, Event(actor, "token.revoke", token_id))


def tokens(tx: Transaction, login: str = "") -> list[Token]:
    """All tokens, or those of one holder, in the order of their making."""
    where = " WHERE login = :login" if login else ""
    return [_token(row) for row in tx.all(f"SELECT {_COLUMNS} FROM token{where} ORDER BY created_at, id", login=login)]  # noqa: S608  our own words


def find_token(tx: Transaction, token_id: str) -> tuple[Token, str] | None:
    """A token and the SHA-256 of its secret, or None."""
    row = tx.one(f"SELECT {_COLUMNS}, secret_sha256 FROM token WHERE id = :id", id=token_id)  # noqa: S608  our own words
    return (_token(row[:-1]), str(row[-1])) if row else None


#: By the way of signing in: what is in force of it, with its own scopes and each role of its holder.
_IN_FORCE = {
    "token": (
        "SELECT t.id, t.scopes, r.role FROM token t JOIN holder h ON h.login = t.login JOIN role r ON r.login = t.login"
        " WHERE t.id IN ({}) AND t.revoked_at IS NULL AND t.expires_at > :now AND h.left_at IS NULL"
    ),
    "certificate": (
        "SELECT c.fingerprint, NULL, r.role FROM certificate c JOIN holder h ON h.login = c.holder JOIN role r ON r.login = c.holder"
        " WHERE c.fingerprint IN ({}) AND c.revoked_at IS NULL AND c.not_after >= :now AND h.left_at IS NULL"
    ),
}


def insist(tx: Transaction, shown: Collection[Shown], now: int) -> None:
    """Refuses whoever was allowed something when he asked, and is not any more. Two questions at most. Raises Refused("sign-in")."""
    for way, sql in _IN_FORCE.items():
        asked = {one for one in shown if one.way == way}
        may: dict[str, set[str]] = {}
        for mark, own, role in tx.among(sql, sorted({one.mark for one in asked}), now=now):
            allowed = scopes_of((role,))
            may.setdefault(mark, set()).update(allowed if own is None else set(allowed).intersection(own.split()))
        if any(one.scope not in may.get(one.mark, ()) for one in asked):
            message = f"the {way}, its holder or what the holder may was taken away while the request was under way"
            raise Refused("sign-in", message, hint="nothing was issued")


def used(tx: Transaction, token_id: str, now: int) -> None:
    """When a token was last used; no audit event, since it changes nothing for anybody."""
    tx.run("UPDATE token SET used_at = :now WHERE id = :id", now=now, id=token_id)


def _token(row: tuple[object, ...]) -> Token:
    token_id, login, scopes, about, created, expires, revoked, used_at = row
    numbers = (int(str(value or 0)) for value in (created, expires, revoked, used_at))
    return Token(str(token_id), str(login), tuple(str(scopes).split()), str(about), *numbers)
