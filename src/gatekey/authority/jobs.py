"""The ledger's side of jobs: leases, and which messages went out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..store import jobs as rows

if TYPE_CHECKING:
    from .authority import Authority


def claim(authority: Authority, name: str, lease: int) -> bool:
    """Takes a job that is due. True for exactly one process."""
    now = authority.now()
    with authority.ledger.db.read() as tx:
        if rows.waits(tx, name, now=now, lease=lease):
            return False  # most ticks end here, without a write
    with authority.ledger.db.transaction("claim job") as tx:
        return rows.claim(tx, name, authority.owner, now=now, lease=lease)


def free(authority: Authority, name: str, lives: Callable[[str], bool]) -> None:
    """Gives a job back whose holder is gone: nobody has to wait for the end of that lease."""
    with authority.ledger.db.read() as tx:
        owner = rows.owner(tx, name)
    if owner and not lives(owner):
        with authority.ledger.db.transaction("free job") as tx:
            now = authority.now()
            rows.finish(tx, name, owner, now=now, due_at=now, outcome="its process is gone")


def finish(authority: Authority, name: str, again_in: int, outcome: str) -> None:
    """Gives a job back; it is due again in so many seconds."""
    now = authority.now()
    with authority.ledger.db.transaction("finish job") as tx:
        rows.finish(tx, name, authority.owner, now=now, due_at=now + again_in, outcome=outcome)


def states(authority: Authority) -> list[tuple[str, int, int, str]]:
    """Every job: name, when it is due, when it last ended (0: never), and how."""
    with authority.ledger.db.read() as tx:
        return rows.states(tx)


def noted(authority: Authority, what: str, subjects: Sequence[str]) -> set[str]:
    """About which of these subjects that message went out."""
    with authority.ledger.db.read() as tx:
        return rows.noted(tx, what, subjects)


def note_messages(authority: Authority, notes: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Notes messages, each as what and about whom, as sent; answers with those that were not before."""
    with authority.ledger.db.transaction("note message") as tx:
        return [(what, subject) for what, subject in notes if rows.claim_message(tx, what, subject, authority.now())]


def unsent(authority: Authority, notes: Sequence[tuple[str, str]]) -> None:
    """Sending failed: they may be tried again."""
    with authority.ledger.db.transaction("unsend message") as tx:
        for what, subject in notes:
            rows.unsent(tx, what, subject)


def sweep(authority: Authority, *, keep: int) -> int:
    """Forgets what is older than `keep` seconds; says how many rows went."""
    with authority.ledger.db.transaction("sweep") as tx:
        return rows.sweep(tx, before=authority.now() - keep)
