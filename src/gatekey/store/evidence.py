"""What `store check` compares: rows as they stand, however damaged, and the events that tell of them. Nobody else reads the ledger in this way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from .audit import Logged
from .database import Transaction
from .dialect import Damaged

_EVENTS = "SELECT number, at, actor, action, subject, facts, hash FROM audit"
#: Cells of a certificate's row that are not text, and those that may be empty.
_BYTES, _NUMBERS = ("tbs", "signature", "entry"), ("not_before", "not_after", "revoked_at", "revocation", "logged")
_OPTIONAL = ("renews", "signature", "fingerprint", "revoked_at", "revoked_reason", "revocation", "entry")
_WORDS = {str: "text", bytes: "bytes", int: "a number", float: "a fraction", type(None): "missing"}


class Row(NamedTuple):
    """A certificate in whatever state, with what its bytes and the audit log must confirm. `logged`: whether its revocation is in the list of revocations."""

    issuer: str
    serial: str
    state: str
    tbs: bytes
    signature: bytes | None
    fingerprint: str | None
    profile: str
    profile_sha256: str
    holder: str
    device: str
    common_name: str
    alternatives: str
    not_before: int
    not_after: int
    spki_sha256: str
    key_type: str
    lineage: str
    renews: str | None
    requester: str
    door: str
    revoked_at: int | None
    revoked_reason: str | None
    revocation: int | None
    entry: bytes | None
    logged: int


class CrlRow(NamedTuple):
    """A CRL without its bytes."""

    issuer: str
    number: int
    state: str
    this_update: int
    next_update: int
    revocation: int
    entries: int


class TokenRow(NamedTuple):
    """A token, with the SHA-256 of its secret."""

    id: str
    login: str
    scopes: str
    created_at: int
    expires_at: int
    revoked_at: int | None
    secret_sha256: str


class Move(NamedTuple):
    """A line of the list of revocations."""

    number: int
    issuer: str
    serial: str
    move: str
    reason: str
    at: int
    actor: str


def certificates(tx: Transaction) -> Iterator[Row]:
    """Every certificate, in whatever state."""
    listed = (
        "EXISTS (SELECT 1 FROM revocation_log l WHERE l.number = certificate.revocation AND l.issuer = certificate.issuer"
        " AND l.serial = certificate.serial AND l.move <> 'unhold')"
    )
    for row in tx.each(f"SELECT {', '.join(Row._fields[:-1])}, {listed} FROM certificate"):  # noqa: S608  our own words
        yield Row(*row)


def damage(row: Row) -> str:
    """What is wrong with the cells themselves, in words, or "": then each is of the kind that it says."""
    for name, cell in row._asdict().items():
        wanted = bytes if name in _BYTES else int if name in _NUMBERS else str
        if isinstance(cell, Damaged):
            return f"{name} is not UTF-8"
        if not isinstance(cell, wanted) and not (cell is None and name in _OPTIONAL):
            return f"{name} is {_WORDS[type(cell)]}, not {_WORDS[wanted]}"
    try:
        names = json.loads(row.alternatives)
    except ValueError:
        names = None
    return "" if isinstance(names, list) and all(isinstance(name, str) for name in names) else "alternatives is not a list of names"


def ids(tx: Transaction) -> set[str]:
    """Issuer and serial of every certificate, as the audit log writes them."""
    return {f"{issuer}/{serial}" for issuer, serial in tx.each("SELECT issuer, serial FROM certificate")}


def holder_of(tx: Transaction, issuer: str, serial: str) -> str:
    """Whose certificate this is, if it was released; otherwise ""."""
    row = tx.one("SELECT holder FROM certificate WHERE issuer = :issuer AND serial = :serial AND state = 'released'", issuer=issuer, serial=serial)
    return str(row[0]) if row else ""


def lineage_of(tx: Transaction, issuer: str, serial: str) -> str:
    """The lineage of a certificate, "" when there is none such."""
    row = tx.one("SELECT lineage FROM certificate WHERE issuer = :issuer AND serial = :serial", issuer=issuer, serial=serial)
    return str(row[0]) if row else ""


def crls(tx: Transaction) -> list[CrlRow]:
    """All CRLs, by issuer and number."""
    return [CrlRow(*row) for row in tx.all(f"SELECT {', '.join(CrlRow._fields)} FROM crl ORDER BY issuer, number")]  # noqa: S608  our own words


def tokens(tx: Transaction) -> list[TokenRow]:
    """All tokens."""
    return [TokenRow(*row) for row in tx.all(f"SELECT {', '.join(TokenRow._fields)} FROM token ORDER BY id")]  # noqa: S608  our own words


def roles(tx: Transaction) -> dict[str, set[str]]:
    """Login -> roles."""
    found: dict[str, set[str]] = {}
    for login, role in tx.each("SELECT login, role FROM role"):
        found.setdefault(login, set()).add(role)
    return found


def compromised(tx: Transaction) -> dict[str, tuple[int, str]]:
    """Key -> when it was reported as compromised, and by whom."""
    return {key: (at, actor) for key, at, actor in tx.each("SELECT spki_sha256, at, actor FROM compromised_key")}


def moves(tx: Transaction) -> Iterator[Move]:
    """The list of revocations, by number."""
    for row in tx.each(f"SELECT {', '.join(Move._fields)} FROM revocation_log ORDER BY number"):  # noqa: S608  our own words
        yield Move(*row)


def about(tx: Transaction, subject: str) -> Iterator[Logged]:
    """The events with this subject, in order."""
    return _logged(tx.each(f"{_EVENTS} WHERE subject = :subject ORDER BY number", subject=subject))


def of(tx: Transaction, *actions: str) -> Iterator[Logged]:
    """The events of these kinds, in order."""
    listed = ", ".join(f"'{action}'" for action in actions)
    return _logged(tx.each(f"{_EVENTS} WHERE action IN ({listed}) ORDER BY number"))


def recorded(tx: Transaction) -> int:
    """How many certificates the log knows."""
    row = tx.one("SELECT count(*) FROM audit WHERE action = 'certificate.record'")
    return int(row[0]) if row else 0


def _logged(rows: Iterator[tuple[Any, ...]]) -> Iterator[Logged]:
    """Facts that cannot be read are none: that the chain is broken there is told elsewhere."""
    for number, at, actor, action, subject, facts, chained in rows:
        try:
            told = json.loads(facts)
        except (ValueError, TypeError):
            told = {}
        yield Logged(number, at, actor, action, subject, told if isinstance(told, dict) else {}, chained)
