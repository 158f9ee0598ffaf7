"""Asking again does nothing twice: what a requester was answered under an idempotency key, for 7 days."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import Conflict, GatekeyError, NotFound, Refused
from ..store import answers as rows
from ..store.answers import Kept

if TYPE_CHECKING:
    from ..lifecycle import Released
    from .authority import Authority

__all__ = ["Kept", "issued", "issued_meanwhile", "once"]


def once(authority: Authority, key: str, digest: str, do: Callable[[], Kept]) -> tuple[Kept, bool]:
    """Does something and keeps its answer, or gives the one of the first time; and whether it is an earlier one.

    A crash between the deed and its answer lets the same request through once more after two minutes; the deed itself then says that it is done.
    Raises Conflict when the key was used for another request, and what `do` raises: then the key is free again.
    """
    requester = authority.actor
    authority.ledger.earlier(requester, key, f"not an issuance: {digest}", authority.now())  # raises Conflict if it was one
    with authority.ledger.db.transaction("begin answer") as tx:
        earlier = rows.begin(tx, requester, key, digest, authority.now())
    if earlier:
        return earlier, True
    try:
        kept = do()
    except BaseException:
        with authority.ledger.db.transaction("give up answer") as tx:
            rows.give_up(tx, requester, key)
        raise
    with authority.ledger.db.transaction("finish answer") as tx:
        rows.finish(tx, requester, key, kept)
    return kept, False


def issued(authority: Authority, key: str, digest: str) -> Released | None:
    """The certificate that this requester got under this key, or None. Raises Conflict, Unavailable while it is being issued."""
    from .reconcile import reconcile

    with authority.ledger.db.read() as tx:
        if rows.taken(tx, authority.actor, key, authority.now()):
            raise rows.reused()
    reconcile(authority)  # an interrupted run with the same key is over as soon as its lease is
    return authority.ledger.earlier(authority.actor, key, digest, authority.now())


def issued_meanwhile(authority: Authority, key: str, digest: str, refused: GatekeyError) -> Released | None:
    """The same, asked once more before a refusal is told: since `issued` has looked, the same request may have been answered elsewhere.

    None also where the refusal says "try again": then it is looked up again anyway.
    """
    return issued(authority, key, digest) if isinstance(refused, Refused | Conflict | NotFound) else None
