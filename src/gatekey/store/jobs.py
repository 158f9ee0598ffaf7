"""Who runs which job, as lease rows, and what was sent to whom: each job runs once and each message goes out once, however many processes there are."""

from __future__ import annotations

from collections.abc import Sequence

from . import takeover
from .admission import AHEAD
from .database import Transaction

#: A clock that was ahead when a job ended or was taken must not keep it waiting until that time comes: CRLs would run out meanwhile.
_FREE = f"(due_at <= :now OR done_at > :now + {AHEAD}) AND (lease_until <= :now OR lease_until > :now + :lease + {AHEAD})"


def waits(tx: Transaction, name: str, *, now: int, lease: int) -> bool:
    """Whether a job is not due yet, or held."""
    return tx.one(f"SELECT 1 FROM job WHERE name = :name AND NOT ({_FREE})", name=name, now=now, lease=lease) is not None  # noqa: S608


def claim(tx: Transaction, name: str, owner: str, *, now: int, lease: int) -> bool:
    """Takes a job that is due and that nobody holds. True for exactly one caller; a lease that ran out is anybody's."""
    if not tx.one("SELECT 1 FROM job WHERE name = :name", name=name):
        tx.insert("job", {"name": name, "owner": "", "lease_until": 0, "due_at": 0, "done_at": None, "outcome": ""})
    taken = tx.run(
        f"UPDATE job SET owner = :owner, lease_until = :until WHERE name = :name AND {_FREE}",  # noqa: S608
        owner=owner,
        until=now + lease,
        name=name,
        now=now,
        lease=lease,
    )
    return taken == 1


def owner(tx: Transaction, name: str) -> str:
    """Who holds a job, or held it last and never gave it back; "" for nobody."""
    row = tx.one("SELECT owner FROM job WHERE name = :name", name=name)
    return str(row[0]) if row else ""


def finish(tx: Transaction, name: str, owner: str, *, now: int, due_at: int, outcome: str) -> bool:
    """Gives a job back with its next time; False when somebody else holds it by now."""
    done = tx.run(
        "UPDATE job SET owner = '', lease_until = 0, due_at = :due, done_at = :now, outcome = :outcome WHERE name = :name AND owner = :owner",
        due=due_at,
        now=now,
        outcome=outcome[:500],
        name=name,
        owner=owner,
    )
    return done == 1


def states(tx: Transaction) -> list[tuple[str, int, int, str]]:
    """Every job: name, when it is due, when it last ended (0: never), and how."""
    return [(name, due, done or 0, outcome) for name, due, done, outcome in tx.all("SELECT name, due_at, done_at, outcome FROM job ORDER BY name")]


def noted(tx: Transaction, what: str, subjects: Sequence[str]) -> set[str]:
    """About which of these subjects that message went out before."""
    return {str(row[0]) for row in tx.among("SELECT subject FROM sent WHERE what = :what AND subject IN ({})", subjects, what=what)}


def claim_message(tx: Transaction, what: str, subject: str, now: int) -> bool:
    """Notes that a message goes out now; False when it went out before. Noted before it is sent: twice would be worse than once too few."""
    if tx.one("SELECT 1 FROM sent WHERE what = :what AND subject = :subject", what=what, subject=subject):
        return False
    tx.insert("sent", {"what": what, "subject": subject, "at": now})
    return True


def unsent(tx: Transaction, what: str, subject: str) -> None:
    """Sending failed: it may be tried again."""
    tx.run("DELETE FROM sent WHERE what = :what AND subject = :subject", what=what, subject=subject)


def sweep(tx: Transaction, *, before: int) -> int:
    """Forgets answers to idempotency keys from before, and after a long time notes of messages and of takeovers; says how many rows went."""
    gone = tx.run("DELETE FROM answer WHERE at < :before", before=before)
    long_ago = before - 400 * 86400
    return gone + tx.run("DELETE FROM sent WHERE at < :long_ago", long_ago=long_ago) + takeover.sweep(tx, before=long_ago)
