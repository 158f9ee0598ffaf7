"""Issuances of several requesters in one commit per step. A durable commit costs milliseconds, a signature a fraction of one; a bad request spoils nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import GatekeyError, Misconfigured, Unavailable
from ..lifecycle import Draft, Recorded, Released
from ..model.holder import Holder
from ..model.record import CertificateRecord
from ..model.request import Request
from ..model.status import RELEASED
from ..store.ledger import fingerprint
from .facts import met
from .issue import decide_for, draft, sign

if TYPE_CHECKING:
    from ..ports import Signer
    from .authority import Authority

#: Unavailable for one request only; every other one of that class is about the ledger itself, and would meet all the others too.
_OWN_TROUBLE = ("idempotency-in-use", "certificate-in-flight")


class Asked(NamedTuple):
    """One request of a batch. `alone`: a second live certificate for the same holder and device is refused."""

    request: Request
    holder: Holder
    alone: bool = False


class Outcome(NamedTuple):
    """What became of it: `released` with its row, or `refused`. `notes`: what policy and lint had to say."""

    released: Released | None = None
    record: CertificateRecord | None = None
    refused: GatekeyError | None = None
    notes: tuple[str, ...] = ()


class _Drafted(NamedTuple):
    place: int
    draft: Draft
    asked: Asked
    notes: tuple[str, ...]


def issue_each(authority: Authority, batch: Sequence[Asked]) -> list[Outcome]:
    """Answers each request for itself, in order, through the six steps of `issue.py` with one commit per step for all that can be issued.

    Never raises a refusal: it stands in the outcome of its request.
    """
    outcomes = [Outcome()] * len(batch)
    drafts: list[_Drafted] = []
    signers: dict[str, Signer] = {}
    now = authority.now()
    try:
        known = met(authority, [(asked.request, asked.holder) for asked in batch])
    except GatekeyError as refused:
        return [Outcome(refused=refused)] * len(batch)
    for place, asked in enumerate(batch):
        notes: list[str] = []
        try:
            plan = decide_for(authority, asked.request, asked.holder, now, alone=asked.alone, known=known)  # 1 and 2
            drafted = draft(authority, asked.request, plan, notes.append)  # 3
            if drafted.issuer not in signers:
                signers[drafted.issuer] = authority.signer(drafted.issuer)  # a key that is away is found out before anything is recorded
        except GatekeyError as refused:
            outcomes[place] = Outcome(refused=refused)
        else:
            drafts.append(_Drafted(place, drafted, asked, (*plan.notes, *notes)))
    _finish(authority, drafts, signers, outcomes)
    return outcomes


def _finish(authority: Authority, drafts: list[_Drafted], signers: dict[str, Signer], outcomes: list[Outcome]) -> None:
    """Steps 4 to 6. What one request alone does wrong shows when the batch is recorded; then each is tried for itself."""
    if not drafts:
        return
    try:
        recorded = _record(authority, drafts)  # 4
        signed = [sign(authority, one, signers[one.draft.issuer]) for one in recorded]  # 5
        released = authority.ledger.release_many(signed, now=authority.now())  # 6
    except GatekeyError as refused:
        everybody = isinstance(refused, Misconfigured | Unavailable) and refused.code not in _OWN_TROUBLE
        if everybody or len(drafts) == 1 or refused.code == "release-lost":
            for one in drafts:
                outcomes[one.place] = Outcome(refused=refused)
            return
        for one in drafts:
            _finish(authority, [one], signers, outcomes)
        return
    for one, done in zip(drafts, released, strict=True):
        outcomes[one.place] = Outcome(done, record_of(one.draft, done, one.asked.holder.kind, authority.now()), notes=one.notes)


def record_of(draft: Draft, released: Released, kind: str, now: int) -> CertificateRecord:
    """The row of a certificate that was released a moment ago, without asking the ledger for what we have just told it."""
    row: dict[str, Any] = {name: draft.row[name] for name in CertificateRecord._fields if name in draft.row}
    row["alternatives"] = tuple(json.loads(row["alternatives"]))
    more: dict[str, Any] = {"issuer": draft.issuer, "serial": draft.number, "state": RELEASED, "kind": kind, "fingerprint": fingerprint(released.der)}
    return CertificateRecord(**row, **more, recorded_at=now, released_at=now, revoked_at=None, revoked_reason=None)


def _record(authority: Authority, drafts: list[_Drafted]) -> list[Recorded]:
    pairs = [(one.draft, one.asked.holder) for one in drafts]
    return authority.ledger.record_many(pairs, owner=authority.owner, now=authority.now(), alone=[one.asked.alone for one in drafts])
