"""Answers to requests that carried an idempotency key and issued nothing: kept 7 days, so that asking again does nothing twice. Issuances keep their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .admission import AHEAD, IDEMPOTENCY, LEASE, in_use, reused
from .database import Transaction

#: The status of a row whose answer is still being made.
_OPEN = 0


class Kept(NamedTuple):
    """What was answered: HTTP status and body, without secrets."""

    status: int
    body: str


def begin(tx: Transaction, requester: str, key: str, digest: str, now: int, *, owner: str, lives: Callable[[str], bool]) -> Kept | None:
    """The answer that this requester got to this key, or None: then the key is taken for the answer to come, by the process `owner`.

    Raises Conflict when it belonged to another request, Unavailable while the same request is being answered. A process that died on the way (`lives` says
    so) blocks the key no longer; one of which that is not known, for the length of a lease.
    """
    over = "DELETE FROM answer WHERE at < :old OR (status = :open AND (at < :dead OR at > :ahead))"
    tx.run(over, old=now - IDEMPOTENCY, open=_OPEN, dead=now - LEASE, ahead=now + AHEAD)
    row = tx.one("SELECT digest, status, body, at FROM answer WHERE requester = :requester AND idempotency = :key", requester=requester, key=key)
    if row is not None and row[1] == _OPEN and not lives(str(row[2])):
        give_up(tx, requester, key)
        row = None
    if row is None:
        # While a row is open, its body says who is at it.
        tx.insert("answer", {"requester": requester, "idempotency": key, "digest": digest, "status": _OPEN, "body": owner, "at": now})
        return None
    if row[0] != digest:
        raise reused()
    if row[1] == _OPEN:
        raise in_use(int(row[3]) + LEASE + 1 - now, dead=False)
    return Kept(int(row[1]), str(row[2]))


def finish(tx: Transaction, requester: str, key: str, kept: Kept) -> None:
    """The answer to a key that `begin` took."""
    tx.run(
        "UPDATE answer SET status = :status, body = :body WHERE requester = :requester AND idempotency = :key",
        status=kept.status,
        body=kept.body,
        requester=requester,
        key=key,
    )


def give_up(tx: Transaction, requester: str, key: str) -> None:
    """The request came to nothing: the key is free again."""
    tx.run("DELETE FROM answer WHERE requester = :requester AND idempotency = :key AND status = :open", requester=requester, key=key, open=_OPEN)
