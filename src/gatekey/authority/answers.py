"""Asking again does nothing twice: what a requester was answered under an idempotency key, for 7 days."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import Conflict, GatekeyError, NotFound, Refused
from ..store import admission
from ..store import answers as rows
from ..store.answers import Kept

if TYPE_CHECKING:
    from ..lifecycle import Released
    from ..store.database import Transaction
    from .authority import Authority

__all__ = ["Kept", "issued", "issued_meanwhile", "once"]


def once(authority: Authority, key: str, digest: str, do: Callable[[], Kept], *, apart: bool = False) -> tuple[Kept, bool]:
    """Does something and keeps its answer, or gives the one of the first time; and whether it is an earlier one.

    The deed and its answer are one transaction: a crash leaves both or neither. `apart`: where that cannot be, since it takes more than one write, or is no
    matter of the ledger. Then the key is claimed before; a crash leaves a claim that ends with its process, and whoever asks again does it again.
    Raises Conflict when the key was used for another request, Unavailable while another process has claimed it, and what `do` raises: then the key is free.
    """
    if apart:
        return _claimed(authority, key, digest, do)
    with authority.ledger.db.transaction("keep answer") as tx:
        earlier = _begin(authority, tx, key, digest)
        if earlier:
            return earlier, True
        kept = do()
        rows.finish(tx, authority.actor, key, kept)
    return kept, False


def _claimed(authority: Authority, key: str, digest: str, do: Callable[[], Kept]) -> tuple[Kept, bool]:
    with authority.ledger.db.transaction("claim answer") as tx:
        earlier = _begin(authority, tx, key, digest)
    if earlier:
        return earlier, True
    try:
        kept = do()
    except BaseException:
        with authority.ledger.db.transaction("give up answer") as tx:
            rows.give_up(tx, authority.actor, key)
        raise
    with authority.ledger.db.transaction("finish answer") as tx:
        rows.finish(tx, authority.actor, key, kept)
    return kept, False


def _begin(authority: Authority, tx: Transaction, key: str, digest: str) -> Kept | None:
    authority.ledger.earlier(authority.actor, key, f"not an issuance: {digest}", authority.now())  # raises Conflict if it was one
    return rows.begin(tx, authority.actor, key, digest, authority.now(), owner=authority.owner, lives=authority.lives)


def issued(authority: Authority, key: str, digest: str) -> Released | None:
    """The certificate that this requester got under this key, or None. Raises Conflict, Unavailable while it is being issued."""
    from .reconcile import reconcile

    with authority.ledger.db.read() as tx:
        if admission.taken(tx, authority.actor, key, authority.now()):
            raise admission.reused()
    reconcile(authority)  # an interrupted run with the same key is over as soon as its lease is
    return authority.ledger.earlier(authority.actor, key, digest, authority.now(), lives=authority.lives)


def issued_meanwhile(authority: Authority, key: str, digest: str, refused: GatekeyError) -> Released | None:
    """The same, asked once more before a refusal is told: since `issued` has looked, the same request may have been answered elsewhere.

    None also where the refusal says "try again": then it is looked up again anyway.
    """
    return issued(authority, key, digest) if isinstance(refused, Refused | Conflict | NotFound) else None
