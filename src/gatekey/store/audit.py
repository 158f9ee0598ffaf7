"""The audit log: events chained by SHA-256, each written in the transaction of the change that it tells of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple

from .database import Row, Transaction

#: What the first event is chained to.
ORIGIN = "0" * 64

_EVENTS = "SELECT number, at, actor, action, subject, facts, hash FROM audit"


class Event(NamedTuple):
    """Who did what to what. `facts` must be plain JSON values and never holds a secret."""

    actor: str
    action: str
    subject: str
    facts: dict[str, Any] = {}  # noqa: RUF012


class Logged(NamedTuple):
    """An event as it stands in the log. `at` in POSIX seconds."""

    number: int
    at: int
    actor: str
    action: str
    subject: str
    facts: dict[str, Any]
    hash: str


_facts = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode


def _chain(previous: str, number: int, at: int, actor: str, action: str, subject: str, facts: str) -> str:
    """The hash of an event: SHA-256 of a JSON list. Raises TypeError or ValueError for a cell that is not of its column's type."""
    line = f'["{previous}",{number:d},{at:d},{quoted(actor)},{quoted(action)},{quoted(subject)},{quoted(facts)}]'
    return hashlib.sha256(line.encode()).hexdigest()


def append(tx: Transaction, at: int, *events: Event) -> None:
    """Adds events to the end of the chain. Must run inside the transaction of the change itself."""
    last = tx.one("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
    number, previous = (int(last[0]), str(last[1])) if last else (0, ORIGIN)
    rows = []
    for actor, action, subject, told in events:
        number += 1
        facts = _facts(told)
        previous = _chain(previous, number, at, actor, action, subject, facts)
        rows.append({"number": number, "at": at, "actor": actor, "action": action, "subject": subject, "facts": facts, "hash": previous})
    tx.insert("audit", *rows)


def has(tx: Transaction, event: Event) -> bool:
    """Whether this very event stands there already, whenever it was."""
    sql = "SELECT 1 FROM audit WHERE subject = :subject AND action = :action AND actor = :actor AND facts = :facts"
    return tx.one(sql, subject=event.subject, action=event.action, actor=event.actor, facts=_facts(event.facts)) is not None


def changes(tx: Transaction, first: int) -> tuple[int, dict[str, list[str]]]:
    """The number of the newest event, and the subjects of the events from `first` on by their actions: what a view that follows needs.

    Without drafts and new holders, which nobody has seen yet. In one row, however many they are: between two rows other threads take the interpreter.
    """
    sql = (
        "SELECT (SELECT max(number) FROM audit), json_group_array(action), json_group_array(subject) FROM audit"
        " WHERE number >= :first AND action NOT IN ('certificate.record', 'holder.add')"
    )
    newest, actions, subjects = tx.one(sql, first=first) or (None, "[]", "[]")
    found: dict[str, list[str]] = {}
    for action, subject in zip(json.loads(actions), json.loads(subjects), strict=True):
        found.setdefault(action, []).append(subject)
    return int(newest or 0), found


def read(tx: Transaction, first: int = 1) -> Iterator[Logged]:
    """The log from event `first` on, in order."""
    return _logged(tx.each(f"{_EVENTS} WHERE number >= :first ORDER BY number", first=first))


def _logged(rows: Iterator[Row]) -> Iterator[Logged]:
    for number, at, actor, action, subject, facts, chained in rows:
        yield Logged(number, at, actor, action, subject, json.loads(facts), chained)


def broken(tx: Transaction) -> str | None:
    """The first place at which the chain does not hold, in words, or None when all of it does."""
    previous, expected = ORIGIN, 1
    for number, at, actor, action, subject, facts, chained in tx.each(f"{_EVENTS} ORDER BY number"):
        if number != expected:
            return f"audit event {expected} is missing"
        try:
            holds = _chain(previous, number, at, actor, action, subject, facts) == chained
        except (TypeError, ValueError):  # text where a number should be, or the other way round
            holds = False
        if not holds:
            return f"audit event {number} or one before it was changed"
        previous, expected = chained, number + 1
    return None
